"""transformers' ``Trainer`` with the loss over edges, and its log."""

# pyright: reportUnknownMemberType=false
# The annotations of transformers are partial.

import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from .collation import Batch
from .loss import edge_loss, plain_head


class EdgeTrainer(Trainer):
    """transformers' ``Trainer`` with the loss over edges: the mean over all learned edges of an optimiser step.

    ``logit_tokens`` is the number of tokens whose logits are in memory at the same time.
    """

    loss_is_scaled_for_ga = True

    def __init__(self, *, logit_tokens: int, **options: Any) -> None:
        super().__init__(**options)
        self._logit_tokens = logit_tokens
        self._heads: list[nn.Linear | None] = []

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor]:
        """Take the batches of one optimiser step, and sum the edge weights of all devices in it."""
        batches: list[Batch] = [*islice(epoch_iterator, num_batches)]
        learned = torch.stack([batch["weights"].sum() for batch in batches]).sum().to(device)
        return batches, cast(Any, self.accelerator).gather(learned).sum()

    def compute_loss(
        self,
        model: Callable[..., Any],
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Compute the loss of one batch.

        Gradients of several devices are averaged, so the loss is multiplied by the number of devices.
        """
        accelerator = cast(Any, self.accelerator)
        unwrapped = accelerator.unwrap_model(self.model)
        if not self._heads:  # once, with the first batch: only now is the model where it will be trained
            self._heads.append(plain_head(model, unwrapped))
        loss = edge_loss(model, inputs, config=unwrapped.config, head=self._heads[0], chunk=self._logit_tokens)
        if num_items_in_batch is None:
            loss = loss / inputs["weights"].sum().clamp(min=1)
        else:
            loss = loss * accelerator.num_processes / torch.as_tensor(num_items_in_batch).clamp(min=1)
        return (loss, {}) if return_outputs else loss


class TrainingLog(TrainerCallback):
    """Appends what the trainer logs to a file, one line per entry.

    A resumed run overwrites the steps that it repeats.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Drop the lines of steps that will be repeated."""
        if state.is_world_process_zero and self._path.exists():
            lines = self._path.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= state.global_step]
            self._path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Append a line."""
        if state.is_world_process_zero:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": state.global_step, **(logs or {})}) + "\n")
