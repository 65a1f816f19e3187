"""A platform plugin for SGLang: any CPU, PyTorch's own kernels, nothing compiled for it.

SGLang finds ``activate`` through the entry point group ``sglang.srt.platforms``. Where a GPU is at hand the plugin
stays out of the way, unless ``SGLANG_PLATFORM=plain_cpu`` asks for it by name.

Nothing heavy is imported here: the ``.pth`` file beside this package runs in every interpreter of the environment.
"""

import os

NAME = "plain_cpu"


def activate() -> str | None:
    """Return the import path of the platform class, or None to leave the choice to SGLang."""
    import torch

    if os.environ.get("SGLANG_PLATFORM") != NAME and torch.cuda.is_available():
        return None
    return "sglang_plain_cpu.platform:PlainCpuPlatform"
