"""Reinforcement learning of runs: rollouts by the runtime, rewards by the cost model, updates over their tries.

    sprint-finetune rl RECIPE.toml

Each iteration solves some problems several times with the current weights, learns from those runs, and writes a
checkpoint. A killed run resumes: finished rollouts are in a file, and the state is written after each update.

Source: P-GRPO of ThreadWeaver (arXiv 2512.07843, section 4): advantages without division by the deviation, the same one
for every call of a run.
"""

# pyright: reportUnknownMemberType=false
# The annotations of torch and transformers are partial.

import asyncio
import json
import os
import random
import shutil
import statistics
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sprint_agents.errors import ConfigurationError, InvalidCheckpoint
from sprint_agents.manifest import FILE_NAME
from sprint_finetune.training.checkpoints import load_model, load_tokenizer, open_folder

from .collection import collect
from .loss import PolicyRow, batches_of, edge_logprobs, policy_loss, rows_of
from .scoring import Scored, rewards, to_learn
from .serving import serving
from .settings import RlProblem, RlSettings

_MAY_CHANGE = {"output", "iterations", "server", "concurrency", "row_tokens"}
"""Settings that a resumed run may change, because they do not affect what is learned."""


def train(settings: RlSettings) -> Path:
    """Train, resuming from ``settings.output`` if a run is there. Return the folder of the trained model.

    Raises:
        ConfigurationError: the settings do not fit the model, the problems or an earlier run.
        EngineError: the engine failed. Run it again to resume.
    """
    problems = RlProblem.read(settings.problems)
    if not (settings.model / FILE_NAME).is_file():
        raise InvalidCheckpoint(f"{settings.model} has no {FILE_NAME}: fine-tune it first with `sprint-finetune train`")
    open_folder(settings.output)
    learner = _Learner(settings)
    checkpoint = learner.write_checkpoint()
    for iteration in range(learner.iteration, settings.iterations):
        drawn = draw(problems, settings, iteration)
        out = settings.output / f"rollouts-{iteration:04}.jsonl"
        groups = asyncio.run(_rollouts(checkpoint, drawn, settings, iteration, out))
        learned = to_learn(groups, method=settings.method, rho=settings.rho)
        rows = rows_of(learned, needs_logprobs=settings.method == "p-grpo")
        losses = learner.update(rows, seed=settings.seed + iteration)
        _log(settings.output, {"iteration": iteration, **summary(groups, settings), "learned": len(rows), **losses})
        learner.save(iteration + 1)
        checkpoint = learner.write_checkpoint()
    return checkpoint


def draw(problems: Sequence[RlProblem], settings: RlSettings, iteration: int) -> dict[int, RlProblem]:
    """Return the problems of an iteration by their indices: all problems are used before any is repeated."""
    count = min(settings.problems_per_iteration, len(problems))
    places = range(iteration * count, (iteration + 1) * count)
    epochs = {place // len(problems) for place in places}
    orders = {
        epoch: random.Random(f"{settings.seed}:{epoch}").sample(range(len(problems)), len(problems)) for epoch in epochs
    }
    chosen = (orders[place // len(problems)][place % len(problems)] for place in places)
    return {index: problems[index] for index in chosen}


def summary(groups: Sequence[Sequence[Scored]], settings: RlSettings) -> dict[str, float]:
    """Return the means of an iteration: of rewards, right answers, seconds by the cost model, tokens and width."""
    every = [one for group in groups for one in group]
    return {
        "reward": round(statistics.fmean(value for group in groups for value in rewards(group, rho=settings.rho)), 4),
        "right": round(statistics.fmean(one.right for one in every), 4),
        "seconds": round(statistics.fmean(one.seconds for one in every), 4),
        "tokens": round(statistics.fmean(one.tokens for one in every), 1),
        "width": round(statistics.fmean(one.width for one in every), 2),
    }


async def _rollouts(
    checkpoint: Path, drawn: Mapping[int, RlProblem], settings: RlSettings, iteration: int, out: Path
) -> list[list[Scored]]:
    async with serving(checkpoint, server=settings.server) as engine:
        return await collect(engine, drawn, settings, iteration=iteration, out=out)


class _Learner:
    """The model in training, its optimiser, and the number of iterations that it has learned."""

    def __init__(self, settings: RlSettings) -> None:
        self._settings = settings
        self._state = settings.output / "state.pt"
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._tokenizer: PreTrainedTokenizerBase = load_tokenizer(str(settings.model))
        self._model: PreTrainedModel = load_model(str(settings.model), dtype=torch.float32)
        self._model.to(self._device)  # pyright: ignore[reportArgumentType, reportCallIssue]
        self._optimiser = torch.optim.AdamW(
            self._model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self._kept = settings.model_dump(mode="json", exclude=_MAY_CHANGE)
        self.iteration = self._resume()

    def update(self, rows: Sequence[PolicyRow], *, seed: int) -> dict[str, float]:
        """Learn from the rows, ``runs_per_step`` in each step of the optimiser. Return the mean loss of a token."""
        settings, losses = self._settings, list[float]()
        order = random.Random(seed)
        for _ in range(settings.passes):
            shuffled = order.sample(rows, len(rows))
            for start in range(0, len(rows), settings.runs_per_step):
                losses.append(self._step(shuffled[start : start + settings.runs_per_step]))
        return {"loss": round(statistics.fmean(losses), 6)} if losses else {}

    def _step(self, rows: Sequence[PolicyRow]) -> float:
        settings, total = self._settings, sum(len(row.trie.weights) for row in rows)
        padding: Any = self._tokenizer.pad_token_id
        clip = settings.clip if settings.method == "p-grpo" else None
        loss_of_all = 0.0
        for batch, gains in batches_of(rows, padding=padding or 0, row_tokens=settings.row_tokens):
            moved = {name: values.to(self._device) for name, values in batch.items()}
            with torch.autocast(self._device.type, dtype=torch.bfloat16) if settings.bf16 else nullcontext():
                logprobs = edge_logprobs(self._model, moved, config=self._model.config)
            loss = policy_loss(logprobs, moved["weights"], gains.to(self._device), clip=clip) / total
            loss.backward()
            loss_of_all += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), settings.largest_gradient)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        return loss_of_all

    def save(self, iteration: int) -> None:
        """Write the state to a new file and rename it, so that one complete state survives a kill."""
        partial = self._state.with_suffix(".partial")
        state = {"model": self._model.state_dict(), "optimiser": self._optimiser.state_dict()}
        torch.save({**state, "settings": self._kept, "iteration": iteration}, partial)
        os.replace(partial, self._state)
        self.iteration = iteration

    def write_checkpoint(self) -> Path:
        """Write the weights in the form that engines open. If the process is killed, the folder is whole or absent."""
        target = self._settings.output.resolve() / "checkpoint"
        partial = target.with_name("checkpoint.partial")
        shutil.rmtree(partial, ignore_errors=True)
        self._model.save_pretrained(partial)
        self._tokenizer.save_pretrained(partial)
        shutil.copy(self._settings.model / FILE_NAME, partial / FILE_NAME)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
        return target

    def _resume(self) -> int:
        if not self._state.exists():
            return 0
        state: dict[str, Any] = torch.load(self._state, map_location="cpu", weights_only=True)
        before = state["settings"]
        if changed := [name for name, value in self._kept.items() if before.get(name) != value]:
            raise ConfigurationError(
                f"{self._settings.output} holds a run with other settings: "
                + ", ".join(f"{name} was {before.get(name)!r}" for name in changed)
                + ". Resume it with the same settings, or choose another output"
            )
        self._model.load_state_dict(state["model"])
        self._optimiser.load_state_dict(state["optimiser"])
        return state["iteration"]


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of ``log.jsonl``, one for each iteration."""
    path = folder / "log.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def _log(folder: Path, line: dict[str, Any]) -> None:
    """Append a line, which replaces that of an iteration that is repeated because it was killed before its end."""
    kept = [one for one in read_log(folder) if one["iteration"] < line["iteration"]]
    partial = folder / "log.partial"
    partial.write_text("".join(f"{json.dumps(one)}\n" for one in [*kept, line]), encoding="utf-8")
    os.replace(partial, folder / "log.jsonl")
