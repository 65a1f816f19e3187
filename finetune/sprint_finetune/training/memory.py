"""How much memory a training run needs on each device, without the device.

Activations are counted, not guessed: the model's own code runs on tensors without memory, and what autograd keeps of
them is added up. Everything else follows from the number of parameters:

=============  ====================  ============================  =========================
per parameter  one device, or copies  FSDP (``fsdp``), of a share   ZeRO-3 in bf16, of a share
=============  ====================  ============================  =========================
weights        4 bytes, 6 in bf16    4                             2, and 4 for the optimizer's
gradients      4                     4                             2, and 4 while a step is taken
optimizer      8                     8                             8
=============  ====================  ============================  =========================

A share is a part of all parameters, one for each process. Sharded layers are gathered before they compute, two at a
time. For small models on a CPU the estimates were within 15 % of the measured peaks; no GPU was at hand.
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportPrivateUsage=false
# The annotations of torch and transformers are partial, and only ``_cdata`` tells storages without memory apart.

from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from sprint_agents.errors import InvalidCheckpoint

from .checkpoints import first_line
from .settings import Lora, Settings

GIB = 2**30
RESERVED = 2 * GIB
"""What a driver, its kernels and the gaps between tensors take of a card."""

_COUNTED_TOKENS = 512
_LOGITS = 1.5  # the logits of a chunk, and a copy in half precision


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """What one device needs, in bytes.

    ``gathered`` are the layers that a sharded model puts together to compute with them. ``logits`` include the gradient
    of the output layer.
    """

    weights: float
    gradients: float
    optimizer: float
    gathered: float
    activations: float
    logits: float

    @property
    def total(self) -> float:
        """The sum, with ``RESERVED``."""
        parts = (self.weights, self.gradients, self.optimizer, self.gathered, self.activations, self.logits)
        return sum(parts) + RESERVED


class MemoryModel:
    """The memory of one training run, on each of ``processes`` devices.

    Only the configuration of the model is read, not its weights.

    Raises:
        InvalidCheckpoint: the model has no readable configuration.
    """

    def __init__(self, settings: Settings, *, processes: int = 1) -> None:
        self._settings = settings
        self._processes = processes
        try:
            self.config: Any = cast(Any, AutoConfig).from_pretrained(settings.model)
        except Exception as error:  # transformers and the hub raise many types
            raise InvalidCheckpoint(
                f"{settings.model} has no readable configuration: {first_line(error)}. Give a folder that has "
                "config.json, or a name on the Hugging Face Hub"
            ) from error
        with FakeTensorMode():
            model = self._made()
            self.parameters = sum(parameter.numel() for parameter in model.parameters())
            """Number of parameters."""
            self._vocabulary = _parameters([cast(nn.Module, model.get_output_embeddings())])
            self._learned = self.parameters if settings.lora is None else _adapters(model, settings.lora)

    @property
    def row_tokens(self) -> int:
        """Tokens in the longest row."""
        return self._settings.row_tokens or self._settings.context or int(self.config.max_position_embeddings)

    def need(self, *, row_tokens: int | None = None) -> MemoryNeed:
        """Return what a device needs for rows of so many tokens; by default, as many as the settings allow."""
        settings = self._settings
        tokens = (row_tokens or self.row_tokens) * settings.rows_per_device
        share = self._processes if settings.deepspeed or settings.fsdp else 1
        sharded = settings.deepspeed or settings.fsdp
        held = 6 if settings.deepspeed else 4 if settings.weights == "float32" else 2
        if self._casts and not sharded:
            held += 2
        learned = self._learned / share
        one = (self.parameters - self._vocabulary) / int(self.config.num_hidden_layers)
        logits = settings.logit_tokens * int(self.config.vocab_size) * 4 * _LOGITS
        return MemoryNeed(
            weights=self.parameters / share * held,
            gradients=learned * (6 if settings.deepspeed else 4),
            optimizer=learned * 8,
            gathered=2 * (2 * one + self._vocabulary) if sharded else 0,
            activations=tokens * self._per_token,
            logits=logits + (self._vocabulary * 4 if settings.lora is None else 0),
        )

    def largest_row(self, memory: float) -> int:
        """Return how many tokens a row may have on a device with ``memory`` bytes; 0 if the model itself is too big."""
        fixed = self.need(row_tokens=1).total
        return max(0, int((memory - fixed) / (self._per_token * self._settings.rows_per_device)))

    @cached_property
    def _per_token(self) -> float:
        """Bytes of activations per token: what is kept of all layers, and the gradients of one.

        With checkpointing the input of each layer is kept, and one layer is computed again.
        """
        layers: int = self.config.num_hidden_layers
        kept = self._kept() / _COUNTED_TOKENS
        if not (self._settings.gradient_checkpointing or self._settings.fsdp):
            return kept * (1 + 1 / layers)
        size = 2 if self._settings.bf16 and self._settings.deepspeed else 4  # of the residual stream
        return layers * int(self.config.hidden_size) * size + 3 * kept / layers

    @property
    def _casts(self) -> bool:
        """Whether layers compute with copies of their weights in half precision. DeepSpeed's whole model is in it."""
        return self._settings.bf16 and not self._settings.deepspeed and self._settings.weights == "float32"

    def _kept(self) -> int:
        """Return the bytes that autograd keeps of a forward pass over ``_COUNTED_TOKENS`` tokens of a trie."""
        found: dict[int, Any] = {}
        with FakeTensorMode():
            model = self._made()
            own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}

            def note(tensor: Tensor) -> Tensor:
                storage = tensor.untyped_storage()
                if storage._cdata not in own:
                    found[storage._cdata] = storage  # held, so that no other storage gets its address
                return tensor

            casts = torch.autocast("cpu", dtype=torch.bfloat16) if self._casts else nullcontext()
            mask = torch.ones(1, 1, _COUNTED_TOKENS, _COUNTED_TOKENS, dtype=torch.bool)
            ids = torch.zeros(1, _COUNTED_TOKENS, dtype=torch.long)
            with casts, torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
                cast(Any, model).base_model(input_ids=ids, position_ids=ids, attention_mask=mask, use_cache=False)
            copies = 2 * (self.parameters - self._vocabulary) if self._casts else 0  # these belong to the weights
            return sum(storage.nbytes() for storage in found.values()) - mask.numel() - copies

    def _made(self) -> PreTrainedModel:
        whole = self._settings.bf16 and self._settings.deepspeed
        dtype = torch.bfloat16 if whole else getattr(torch, self._settings.weights)
        factory = cast(Any, AutoModelForCausalLM)
        return factory.from_config(self.config, dtype=dtype, attn_implementation="sdpa").train()


def _parameters(modules: Iterable[nn.Module]) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def _adapters(model: PreTrainedModel, lora: Lora) -> int:
    """Return the number of parameters of the adapters."""
    head = model.get_output_embeddings()
    layers = [
        (name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear) and layer is not head
    ]
    named = () if isinstance(lora.targets, str) else lora.targets
    chosen = [layer for name, layer in layers if not named or name.rpartition(".")[2] in named]
    return sum(lora.rank * (layer.in_features + layer.out_features) for layer in chosen)
