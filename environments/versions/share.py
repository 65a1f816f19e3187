"""Share this environment's torch and the repository's tests with another: ``python share.py ENVIRONMENT``.

torch is large, so it is linked instead of installed again. The repository's root is appended to the path there, after
the installed packages: tests find each other, and ``sprint_agents`` is the wheel's.
"""

import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path

ROOT = Path(__file__).parents[2]
_LARGE = ("torch", "nvidia-", "cuda-", "triton")
"""The beginnings of the names of torch and of what it brings with it."""


def share(environment: Path) -> None:
    """Link torch into ``environment``, and let its interpreter find the tests."""
    (packages,) = environment.glob("lib/python*/site-packages")
    shared = [distribution for distribution in distributions() if distribution.name.startswith(_LARGE)]
    for source in set().union(*map(_top_level, shared)):  # several distributions share the folder `nvidia`
        (packages / source.name).symlink_to(source)
    lines = [f"{distribution.name}=={distribution.version}\n" for distribution in shared]
    (environment / "shared.txt").write_text("".join(lines), encoding="utf-8")
    (packages / "repository.pth").write_text(f"{ROOT}\n", encoding="utf-8")


def _top_level(distribution: Distribution) -> set[Path]:
    """Return the files and folders in site-packages that belong to a distribution."""
    names = {file.parts[0] for file in distribution.files or ()}
    return {Path(str(distribution.locate_file(name))).absolute() for name in names if name not in ("..", "__pycache__")}


if __name__ == "__main__":
    share(Path(sys.argv[1]))
