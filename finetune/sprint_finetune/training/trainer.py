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

from .collation import BalancedOrder, Batch, PackedRows
from .loss import edge_loss, plain_head


class EdgeTrainer(Trainer):
    """transformers' ``Trainer`` with the loss over edges: the mean over all learned edges of an optimiser step.

    ``logit_tokens`` is the number of tokens whose logits are in memory at the same time. With ``liger``, liger-kernel
    decides.
    """

    loss_is_scaled_for_ga = True

    def __init__(self, *, logit_tokens: int, liger: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self._logit_tokens, self._liger = logit_tokens, liger
        self._heads: list[nn.Linear | None] = []

    def _get_train_sampler(self, train_dataset: Any = None) -> BalancedOrder:
        """Order the rows so that all processes read equally long batches in a step."""
        rows = cast(PackedRows, train_dataset or self.train_dataset)
        processes = cast(int, self.args.world_size)
        together = self.args.train_batch_size * processes * self.args.gradient_accumulation_steps
        return BalancedOrder(rows.lengths, together=together, seed=self.args.seed)

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
        kind = "liger" if self._liger else "chunks"
        loss = edge_loss(
            model, inputs, config=unwrapped.config, head=self._heads[0], chunk=self._logit_tokens, kind=kind
        )
        if num_items_in_batch is None:
            loss = loss / inputs["weights"].sum().clamp(min=1)
        else:
            loss = loss * accelerator.num_processes / torch.as_tensor(num_items_in_batch).clamp(min=1)
        return (loss, {}) if return_outputs else loss


class TrainingLog(TrainerCallback):
    """Appends what the trainer logs to a file, one line per entry.

    A resumed run overwrites the steps that it repeats, and the summary of the run that transformers logs at its end.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def has(self, name: str, *, step: int) -> bool:
        """Return whether the value ``name`` was logged at ``step``."""
        return any(name in line and line["step"] == step for line in self._lines())

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Drop the lines of steps that will be repeated."""
        if state.is_world_process_zero and self._path.exists():
            kept = [line for line in self._lines() if line["step"] <= state.global_step and "train_runtime" not in line]
            partial = self._path.with_suffix(".partial")
            partial.write_text("".join(f"{json.dumps(line)}\n" for line in kept), encoding="utf-8")
            partial.replace(self._path)

    def _lines(self) -> list[dict[str, Any]]:
        """Read the complete lines."""
        lines = self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

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
