"""One run: dispatch each subtask the moment its prompt closes, gather, join in prompt order, next stage.

``session`` holds what all parts of a run share, ``execution`` carries out one subtask: by a model, in ``turns`` with
``tool_loop`` and maybe on an engine ``elsewhere``; by a function; or by a sprint of its own, ``inner``. ``branches``
are the subtasks of a stage, ``stage`` runs one, ``join`` writes its executions, ``draft`` makes its record. ``drive``
follows the policy, ``nested`` those that work for another one, ``answering`` agrees on the answer, ``journal`` writes
and resumes, ``watch`` ends what takes too long.
"""
