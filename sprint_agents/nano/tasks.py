"""All kinds of problems whose answers a program checks, and which of them a model takes."""

from typing import get_args

from sprint_agents.errors import UnsupportedTask
from sprint_agents.manifest import Manifest

from .arithmetic import Arithmetic
from .countdown import Countdown
from .multiplication import Multiplication
from .ranges import TaskRanges
from .scanner import scan

Task = Countdown | Arithmetic | Multiplication
"""Any problem that a program can check."""

FAMILIES: dict[str, type[Task]] = {family.name: family for family in get_args(Task)}
"""The kinds of problems by name."""

_KEYWORDS = ("countdown", "use", "arithmetic", "compute", "multiply")


def recognise(text: str) -> Task | None:
    """Read a problem that names its kind, such as ``multiply 28 347``; None if ``text`` does not.

    A bare ``28 * 347`` is not read here, where the texts are other people's: their reference answers may have forms
    that our checks do not know.
    """
    if scan(text)[:1] not in ([keyword] for keyword in _KEYWORDS):
        return None
    return next(iter(_readings(text, tuple(FAMILIES))), None)


def understand(text: str, manifest: Manifest) -> tuple[str, Task]:
    """Find the words in which a model was trained on the problem, and the problem, which checks answers.

    Raises:
        UnsupportedTask: ``text`` is not a problem that the model was trained on.
        InvalidCheckpoint: the manifest's ``tasks`` are not valid.
    """
    ranges = TaskRanges.of(manifest)
    tasks = _readings(text, ranges.kinds)
    if not tasks:
        forms = "; ".join(form for name in ranges.kinds for form in FAMILIES[name].forms)
        asked = " ".join(text.split())[:80]
        raise UnsupportedTask(
            f"{manifest.model} understands {', '.join(ranges.kinds)} only, and {asked!r} is none of these. "
            f"Write it as one of: {forms}"
        )
    refusals: list[str] = []
    for task in tasks:
        refusal = task.refusal(ranges)
        if refusal is None:
            return task.prompt, task
        refusals.append(refusal + _example(task, ranges))
    raise UnsupportedTask(f"{manifest.model} was trained on {'. It was also trained on '.join(refusals)}")


def _readings(text: str, kinds: tuple[str, ...]) -> list[Task]:
    """Read ``text`` as each of ``kinds``: ``12 * 345`` is arithmetic without groups, and a multiplication too."""
    readings = (FAMILIES[name].parse(text) for name in kinds)
    return [task for task in readings if task is not None]


def _example(task: Task, ranges: TaskRanges) -> str:
    """Show a problem of the same kind that the model takes."""
    examples = ((form, task.parse(form)) for form in task.forms)
    known = (form for form, example in examples if example is not None and example.refusal(ranges) is None)
    return f"; try {form!r}" if (form := next(known, None)) else ""


__all__ = ["FAMILIES", "Arithmetic", "Countdown", "Multiplication", "Task", "recognise", "understand"]
