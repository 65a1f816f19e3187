"""The lowest versions that are tested are those that ``pyproject.toml`` allows."""

import re
import tomllib
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "environments" / "versions" / "lowest.lock"
UNTESTED = {
    "ray",  # 70 MB with much beside it: one version is tested, with the real servers
    "reasoning-gym",  # the bound is its newest version, and the many packages that it needs serve the gym alone
    "torch",  # linked from .venv: every other version is gigabytes
}


def test_lowest_versions_are_the_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    requirements = chain(project["dependencies"], *project["optional-dependencies"].values())
    bounds = [line.split(">=") for line in requirements if not line.startswith("sprint-agents[")]
    bounds = [(name.partition("[")[0], version) for name, version in bounds]
    pins = dict(line.split("==") for line in LOCK.read_text("utf-8").split())
    pins = {name.replace("_", "-").lower(): shortened(version) for name, version in pins.items()}
    assert bounds
    for name, version in bounds:
        assert name in UNTESTED or pins[name] == shortened(version), f"{name}>={version}, but {pins[name]} is tested"


def shortened(version: str) -> str:
    """Return a version without zeros at its end."""
    return re.sub(r"(\.0)+$", "", version)
