"""One run: dispatch each subtask the moment its prompt closes, gather, join in prompt order, next stage.

``session`` holds what all parts of a run share, ``execution`` carries out one subtask, ``stage`` runs one stage,
``drive`` follows the policy, ``journal`` writes and resumes.
"""
