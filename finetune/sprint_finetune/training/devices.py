"""What a run requires of its processes, devices and packages, checked before anything is loaded."""

import os
from importlib.util import find_spec
from typing import Any, cast

import torch
from transformers import TrainingArguments
from transformers.integrations.integration_utils import get_available_reporting_integrations

from sprint_agents.errors import ConfigurationError, MissingExtra

from .settings import Settings

_SPLITS = {"cp": "context parallelism", "sp": "sequence parallelism", "tp": "tensor parallelism"}
"""The splits of ``accelerate launch --parallelism-config-…`` that divide a row or a layer among processes."""


def check_packages(settings: Settings) -> None:
    """Refuse settings that name files or packages which are not there.

    Raises:
        MissingExtra: accelerate is not installed.
        ConfigurationError: another package or a file is missing.
    """
    if find_spec("accelerate") is None:
        raise MissingExtra("finetune", "accelerate")
    if settings.deepspeed and find_spec("deepspeed") is None:
        raise ConfigurationError("deepspeed is not installed: run `pip install deepspeed`, or shard with fsdp")
    for path in (settings.deepspeed, settings.fsdp):
        if path is not None and not path.is_file():
            raise ConfigurationError(f"there is no file {path}: name a configuration such as those in finetune/recipes")
    installed = cast(list[str], get_available_reporting_integrations())
    if missing := [name for name in settings.report_to if name not in installed]:
        raise ConfigurationError(
            f"report_to names {missing[0]!r}, which is not installed or not one of transformers' integrations: "
            f"run `pip install {missing[0]}`, or leave it out; log.jsonl is written in any case"
        )
    if settings.loss == "liger":
        _check_liger()


def check_devices(settings: Settings, arguments: TrainingArguments) -> None:
    """Refuse processes and devices on which the settings would not do what they say.

    Raises:
        ConfigurationError: several GPUs in one process, sharding without GPUs, or rows split among processes.
    """
    if arguments.n_gpu > 1:
        raise ConfigurationError(
            f"there are {arguments.n_gpu} GPUs but only one process: start one process per GPU with "
            f"`accelerate launch --num_processes {arguments.n_gpu} -m sprint_finetune.training.finetune …`, "
            "or make only one GPU visible"
        )
    processes: int = cast(Any, arguments).world_size
    on_cpu = not torch.accelerator.is_available()
    if settings.fsdp and (processes == 1 or on_cpu):  # on CPUs accelerate would silently not shard
        raise ConfigurationError(
            f"fsdp shards a model over several GPUs, one process each, but here {processes} process(es) "
            f"run on {'the CPU' if on_cpu else 'a GPU'}: "
            "use `accelerate launch` on a machine with several GPUs, or leave out fsdp"
        )
    _refuse_split_rows()


def _check_liger() -> None:
    if not torch.cuda.is_available():
        raise ConfigurationError(
            'loss = "liger" is a kernel for NVIDIA GPUs, and there is none here: use loss = "chunks", the default'
        )
    if find_spec("liger_kernel") is None:
        raise ConfigurationError(
            'loss = "liger" needs liger-kernel: run `pip install liger-kernel`, or use loss = "chunks", the default'
        )


def _refuse_split_rows() -> None:
    """Refuse to divide rows among processes.

    accelerate's context parallelism drops every attention mask and assumes a causal one, so the branches of a trie
    would see each other without an error. The loss finds its edges by their places in a whole row.
    """
    if os.environ.get("ACCELERATE_USE_PARALLELISM_CONFIG", "false").lower() != "true":
        return
    for short, name in _SPLITS.items():
        size = os.environ.get(f"PARALLELISM_CONFIG_{short.upper()}_SIZE", "1")
        if size != "1":
            raise ConfigurationError(
                f"accelerate was started with {name} over {size} processes, which cannot train tries, "
                f"because rows and masks must stay whole. Leave out --parallelism-config-{short}-size, and shard the "
                "model with fsdp or deepspeed. For long rows set row_tokens, gradient_checkpointing and bf16"
            )
