"""One run: execute each subtask the moment its prompt closes, join in prompt order, and run the next stage.

``loop`` follows a policy to its answer and runs each of its steps as a ``stage``. The stage starts its executions as
``branches``; ``executor`` carries out each of them: a model in a ``conversation``, a function, or a sprint or policy
``nested`` in the run. ``join`` appends the finished executions to the planner's context. All of them share a
``session``, which makes the engine calls; ``journal`` writes finished stages, with the ``settings`` of the run and the
``values`` of results, and resumes from them.
"""
