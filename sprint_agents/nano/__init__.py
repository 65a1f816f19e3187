"""sprint-nano, the small model that ships with the package, and the problems it was trained on.

The core never imports this package, except that ``sprint_agents.tasks`` loads it for a checkpoint whose
``sprint.json`` lists ``tasks``.
"""

from pathlib import Path


def nano_path() -> Path:
    """Return the directory of sprint-nano, an ordinary Hugging Face checkpoint with its ``sprint.json``.

    >>> (nano_path() / "sprint.json").exists()
    True
    """
    return Path(__file__).parent / "sprint-nano"
