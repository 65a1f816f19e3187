"""Tasks whose answers a program checks."""

from typing import get_args

from sprint_agents.errors import UnsupportedTask
from sprint_agents.manifest import Manifest

from .arithmetic import Arithmetic
from .countdown import Countdown
from .multiplication import Multiplication

Task = Countdown | Arithmetic | Multiplication
"""Any task that a program can check."""

FAMILIES: dict[str, type[Task]] = {family.name: family for family in get_args(Task)}
"""The kinds of tasks by name."""


def recognise(text: str) -> Task | None:
    """Read ``text`` as a task that a program can check; None where it is none."""
    read = (family.parse(text) for family in FAMILIES.values())
    return next((task for task in read if task), None)


def understand(text: str, manifest: Manifest | None) -> tuple[str, Task | None]:
    """Find the words to put to the model, and the checker if a program knows the task.

    Raises:
        UnsupportedTask: the task is empty, or outside what a small model was trained on.
    """
    if not text.strip():
        raise UnsupportedTask("the task is empty: say what to solve")
    task = recognise(text)
    if manifest and manifest.tasks:
        _check_trained(text, task, manifest)
    return (task.prompt, task) if task else (text, None)


def _check_trained(text: str, task: Task | None, manifest: Manifest) -> None:
    if task is None or task.name not in manifest.tasks:
        forms = "; ".join(form for name in manifest.tasks for form in FAMILIES[name].forms)
        raise UnsupportedTask(
            f"{manifest.model} understands {', '.join(manifest.tasks)} only, and {text.strip()[:80]!r} is none of it. "
            f"Write it as one of: {forms}"
        )
    if strays := task.strays(manifest.tasks):
        raise UnsupportedTask(f"{manifest.model} was trained on {strays}")


__all__ = ["FAMILIES", "Arithmetic", "Countdown", "Multiplication", "Task", "recognise", "understand"]
