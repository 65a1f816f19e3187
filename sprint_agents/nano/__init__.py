"""The model that ships with the package."""

from pathlib import Path


def nano_path() -> Path:
    """Return the directory of sprint-nano, an ordinary Hugging Face checkpoint with its ``sprint.json``.

    >>> (nano_path() / "sprint.json").exists()
    True
    """
    return Path(__file__).parent / "sprint-nano"
