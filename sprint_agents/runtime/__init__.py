"""One run: dispatch each subtask the moment its prompt closes, gather, join in prompt order, next stage.

``session`` holds what all parts of a run share, ``execution`` carries out one subtask, ``branches`` those of a stage,
``stage`` runs one stage, ``join`` writes its executions, ``draft`` makes its record, ``drive`` follows the policy,
``nested`` those that work for another one, ``journal`` writes and resumes.
"""
