"""The text of a task: what the model reads, and how its answer is checked if it was trained on such tasks."""

from collections.abc import Callable
from typing import NamedTuple

from .errors import UnsupportedTask, escape_surrogates
from .manifest import Manifest
from .settles import Settles


class ReadTask(NamedTuple):
    """The text to put to the model; a check of its answers and what settles its stages, where the model's tasks say."""

    prompt: str
    check: Callable[[str], bool] | None = None
    settles: Settles | None = None


def read_task(text: str, manifest: Manifest | None) -> ReadTask:
    """Return what the model is to read of a task, and what is known about it.

    Only a manifest with ``tasks`` changes the text or brings a check. Any other model gets ``text`` byte for byte.

    Raises:
        UnsupportedTask: ``text`` is not text, is empty, or is not a problem that the model was trained on.
        InvalidCheckpoint: the manifest's ``tasks`` are not valid.
    """
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance] - a task may come from anywhere
        raise UnsupportedTask(f"a task is a text, and this one is of type {type(text).__name__}")
    if text != escape_surrogates(text):
        raise UnsupportedTask("the task has half of a surrogate pair, which no tokenizer reads: decode the text again")
    if not text.strip():
        raise UnsupportedTask("the task is empty: say what to solve")
    if manifest is None or not manifest.tasks:
        return ReadTask(text, settles=manifest.settles_stages(None) if manifest else None)
    from .nano.tasks import understand  # the core's only import of nano, for the checkpoints that ask for it

    prompt, task = understand(text, manifest)
    return ReadTask(prompt, task.check, manifest.settles_stages(task.name))
