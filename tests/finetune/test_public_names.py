"""The packages of the trainer export their public names, and load torch only when a name needs it."""

import importlib
import subprocess
import sys

import pytest

PACKAGES = ("training", "nano", "curation", "evaluation", "rl")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_can_be_imported(package):
    module = importlib.import_module(f"sprint_finetune.{package}")
    assert len(set(module.__all__)) == len(module.__all__)
    assert all(getattr(module, name) is not None for name in module.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = module.nothing


def test_importing_the_packages_loads_no_torch():
    code = "import sys, sprint_finetune.training, sprint_finetune.nano, sprint_finetune.curation, sprint_finetune.rl\n"
    code += "from sprint_finetune.training import calls_of\nfrom sprint_finetune.nano import planner, split_of\n"
    code += "print(sorted({'torch', 'transformers'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"
