"""Tasks whose answers a program checks."""

from sprint_agents.errors import UnsupportedTask
from sprint_agents.manifest import Manifest

from .countdown import Countdown

Task = Countdown
"""Any task that a program can check."""


def recognise(text: str) -> Task | None:
    """Read ``text`` as a task that a program can check; None where it is none."""
    return Countdown.parse(text)


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
        forms = "; ".join(form for form in Countdown.forms)
        raise UnsupportedTask(
            f"{manifest.model} understands {', '.join(manifest.tasks)} only, and {text.strip()[:80]!r} is none of it. "
            f"Write it as one of: {forms}"
        )
    known = manifest.tasks[task.name]
    low, high = known.numbers
    if len(task.numbers) not in known.counts or not all(low <= number <= high for number in task.numbers):
        counts = " or ".join(str(count) for count in known.counts)
        raise UnsupportedTask(
            f"{manifest.model} was trained on {task.name} with {counts} numbers from {low} to {high}, "
            f"not on {', '.join(map(str, task.numbers))}"
        )
    low, high = known.targets
    if not low <= task.target <= high:
        raise UnsupportedTask(f"{manifest.model} was trained on targets from {low} to {high}, not on {task.target}")


__all__ = ["Countdown", "Task", "recognise", "understand"]
