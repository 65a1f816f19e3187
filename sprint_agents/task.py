"""The task of a run: the user's own words, unless the checkpoint was trained on a few kinds of problems only."""

from collections.abc import Callable

from .errors import UnsupportedTask
from .manifest import Manifest


def read_task(text: str, manifest: Manifest | None) -> tuple[str, Callable[[str], bool] | None]:
    """Return the text to put to the model, and a check of its answers if the model's tasks have one.

    Only a manifest with ``tasks`` changes the text or brings a check. Any other model gets ``text`` byte for byte.

    Raises:
        UnsupportedTask: ``text`` is empty, or is not a problem that the model was trained on.
        InvalidCheckpoint: the manifest's ``tasks`` are not valid.
    """
    if not text.strip():
        raise UnsupportedTask("the task is empty: say what to solve")
    if manifest is None or not manifest.tasks:
        return text, None
    from .nano.tasks import understand  # the core's only import of nano, for the checkpoints that ask for it

    prompt, task = understand(text, manifest)
    return prompt, task.check
