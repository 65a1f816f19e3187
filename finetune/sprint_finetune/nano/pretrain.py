"""Train a model of sprint-nano's architecture, from scratch or from a checkpoint. A killed run resumes.

    python -m sprint_finetune.nano.pretrain runs/base --mix chains --steps 1200
    python -m sprint_finetune.nano.pretrain runs/nano --mix settled --start runs/base/checkpoint --steps 4000

The learning rate warms up, stays constant and decays linearly. Weights are float32, with bf16 autocast. The data
depends only on the seed and the step, so a resumed run sees the same data as an uninterrupted one.
"""

# pyright: reportUnknownMemberType=false
# The annotations of torch and transformers are partial.

import argparse
import json
import math
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from sprint_agents.errors import ConfigurationError
from sprint_finetune.training.collation import Batch
from sprint_finetune.training.loss import edge_loss

from .attention import BLOCKS, register_blocks
from .batches import Mix, batches
from .countdown_search import LARGEST
from .splits import Family
from .team import Team, gathered
from .tokenizer import build_tokenizer

CONTEXT = 4096

_SHARE = re.compile(r"0?\.\d*[1-9]\d*|[1-9]\d*(?:\.\d*)?")

_MOST_PROCESSES = 4
"""The most processes by default: a step has eight batches of similar work."""

FAMILIES: Mapping[Family, float] = {"countdown": 0.35, "arithmetic": 0.5, "multiplication": 0.15}
"""The tasks that sprint-nano learns, and the share of problems of each."""

WAVE_PERIODS = (2, 3, 4, 5, 7, 8, 9, 10, 11, 13, 16, 20, 25, 32, 50, 64, 100, 128, 200, 256, 400, 600, 1000, 2000)
LOG_WAVE_RATES = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
WAVE_AMPLITUDE = 0.06

BYTE_LEVEL_SPACE = "Ġ"
BYTE_LEVEL_LINE = "Ċ"
"""How a byte-level vocabulary writes a space and a line break."""

VERDICT_WEIGHT = 5.0
"""Loss weight of a verdict, `` yes`` or `` no``, on which all later text depends. Other tokens have weight 1."""

ANSWER_SIGNS = "()+-*/"
ANSWER_WEIGHT = 5.0
"""Loss weight of a sign that occurs only in Countdown answers. A planner writes few of them, each copied from afar."""


def nano_config(vocabulary: int, *, hidden: int = 256, layers: int = 4) -> LlamaConfig:
    """Return the architecture of sprint-nano. Its head_dim of 64 suits every engine's kernels."""
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        num_key_value_heads=hidden // 64,
        head_dim=64,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=1,
    )


def new_model(tokenizer: PreTrainedTokenizerBase) -> LlamaForCausalLM:
    """Create a model in which the embedding of each number starts as waves of its value.

    Sums are then rotations, and products are shifts in log space, which should be easier to find than from random
    embeddings. The two tokens of a number, bare and after a space, differ by one vector that all numbers share.
    """
    model = LlamaForCausalLM(nano_config(len(tokenizer)))
    numbers = torch.arange(LARGEST + 1, dtype=torch.float32)
    turns = [numbers / period for period in WAVE_PERIODS] + [
        numbers.clamp(min=1).log() * rate for rate in LOG_WAVE_RATES
    ]
    angles = 2 * math.pi * torch.stack(turns, dim=1)
    waves = torch.stack([angles.cos(), angles.sin()], dim=2).flatten(1)
    bare, spaced = (
        tokenizer.convert_tokens_to_ids([f"{before}{number}" for number in range(LARGEST + 1)])
        for before in ("", BYTE_LEVEL_SPACE)
    )
    with torch.no_grad():
        rows = model.model.embed_tokens.weight
        rows[bare, : waves.shape[1]] += WAVE_AMPLITUDE * waves
        rows[spaced] = rows[bare] + rows[tokenizer.convert_tokens_to_ids(BYTE_LEVEL_SPACE)]
    return model


def learning_rate(step: int, *, steps: int, peak: float, warm_up: int = 200, decay: float = 0.5) -> float:
    """Return the rate at a step.

    It warms up, stays constant, and decays linearly to zero over the last share ``decay`` of ``steps``.
    """
    return peak * min(1.0, (step + 1) / warm_up, (steps - step) / (decay * steps))


def train(
    folder: Path,
    *,
    steps: int,
    mix: Mix,
    start: Path | None = None,
    seed: int = 0,
    peak: float = 2e-3,
    problems_per_step: int = 8,
    tokens_per_batch: int = 2_048,
    families: Mapping[Family, float] = FAMILIES,
    minutes_between_checkpoints: float = 4.0,
    compiled: bool = True,
    processes: int = 1,
) -> None:
    """Train into ``folder``: ``state.pt`` to resume from, ``log.jsonl``, and ``checkpoint/`` in Hugging Face format.

    ``start`` is a checkpoint with this tokenizer to start from; None starts from scratch. Every ``mix`` sees the same
    problems at the same step. ``compiled`` fuses elementwise operations, which doubles the tokens per second on a
    CPU at best, but needs a C compiler and a minute to start. ``processes`` share each step, see ``team``.

    Raises:
        ConfigurationError: ``folder`` holds a run with other settings, or several processes would share a GPU. A
            different number of ``steps`` or ``processes`` is allowed.
    """
    if processes > 1 and torch.cuda.is_available():
        raise ConfigurationError(f"{processes} processes would share the GPU: use one process")
    data: dict[str, Any] = {
        "mix": mix,
        "seed": seed,
        "problems_per_step": problems_per_step,
        "tokens_per_batch": tokens_per_batch,
        "families": dict(families),
    }
    folder.mkdir(parents=True, exist_ok=True)
    arguments = (folder, data, start, steps, peak, minutes_between_checkpoints, compiled)
    with gathered(processes, _train, *arguments) as team:
        _train(team, *arguments)


def _train(
    team: Team,
    folder: Path,
    data: Mapping[str, Any],
    start: Path | None,
    steps: int,
    peak: float,
    minutes_between_checkpoints: float,
    compiled: bool,
) -> None:
    """Train as one member of a team. Only member 0 writes."""
    settings = {**data, "peak": peak}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(data["seed"])
    tokenizer = build_tokenizer()
    model = LlamaForCausalLM.from_pretrained(start) if start else new_model(tokenizer)
    if device == "cpu":
        register_blocks()
        model.set_attn_implementation(BLOCKS)
    model.to(torch.device(device))  # pyright: ignore[reportArgumentType, reportCallIssue]
    optimisers = make_optimisers(model, peak=peak)
    weights = token_weights(tokenizer).to(device)
    first, tokens = _resume(folder, model, optimisers, settings)
    if team.member == 0:
        _cut_log(folder, step=first)
    forward = torch.compile(model, dynamic=True) if compiled else model
    started = saved = time.monotonic()
    made = team.each(lambda step: [*batches(tokenizer, step=step, **data)], range(first, steps))
    for step, parts in enumerate(made, first):
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(step, steps=steps, peak=peak)
        loss, seen = _update(model, forward, optimisers, parts, weights, team=team)
        tokens += seen
        if team.member > 0:
            continue
        if step % 25 == 0:
            seconds = round(time.monotonic() - started, 1)
            left = round(seconds / (step - first + 1) * (steps - step - 1) / 60, 1)
            _log(folder, step=step, loss=round(loss, 5), tokens=tokens, seconds=seconds, minutes_left=left)
        if time.monotonic() - saved > 60 * minutes_between_checkpoints or step == steps - 1:
            _save(folder, model, optimisers, settings, step=step + 1, tokens=tokens)
            _write_checkpoint(folder, model, tokenizer)
            saved = time.monotonic()
    if first >= steps and team.member == 0:  # it may have been killed between writing the last state and its checkpoint
        _write_checkpoint(folder, model, tokenizer)


def make_optimisers(model: LlamaForCausalLM, *, peak: float) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices within the layers and AdamW for all other parameters.

    Both take AdamW's learning rate.
    """
    inner = [parameter for parameter in model.model.layers.parameters() if parameter.ndim == 2]
    held = {id(parameter) for parameter in inner}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in held]
    return [
        torch.optim.Muon(inner, lr=peak, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=peak, betas=(0.9, 0.99), weight_decay=0.01, fused=True),
    ]


def token_weights(tokenizer: PreTrainedTokenizerBase) -> torch.Tensor:
    """Return the loss weight of each token, of shape (vocabulary,)."""
    weights = torch.ones(len(tokenizer))
    verdicts = [f"{BYTE_LEVEL_SPACE}{word}{BYTE_LEVEL_LINE}" for word in ("yes", "no")]
    weights[tokenizer.convert_tokens_to_ids(verdicts)] = VERDICT_WEIGHT
    weights[tokenizer.convert_tokens_to_ids(list(ANSWER_SIGNS))] = ANSWER_WEIGHT
    return weights


def _update(
    model: LlamaForCausalLM,
    forward: Callable[..., Any],
    optimisers: Sequence[torch.optim.Optimizer],
    parts: Sequence[Batch],
    weights: torch.Tensor,
    *,
    team: Team = Team(),  # noqa: B008 - frozen
) -> tuple[float, int]:
    """Take one optimiser step on micro-batches. Return the loss per learned token, and the number of tokens read."""
    whole = sum(float(part["weights"].sum()) for part in parts)
    total = 0.0
    for part in team.share(parts):
        batch = {name: values.to(model.device) for name, values in part.items()}
        batch["weights"] = batch["weights"] * weights[batch["targets"]]
        with torch.autocast(model.device.type, dtype=torch.bfloat16):
            loss = edge_loss(forward, batch, config=model.config) / whole
        loss.backward()
        total += float(loss.detach())
    total = team.add_up(model, total)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimiser in optimisers:
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    return total, sum(part["input_ids"].numel() for part in parts)


def _resume(
    folder: Path,
    model: LlamaForCausalLM,
    optimisers: Sequence[torch.optim.Optimizer],
    settings: Mapping[str, Any],
) -> tuple[int, int]:
    path = folder / "state.pt"
    if not path.exists():
        return 0, 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    before = state["settings"]
    if other := [f"{name} = {before.get(name)!r}" for name, value in settings.items() if before.get(name) != value]:
        raise ConfigurationError(
            f"the run in {folder} started with {', '.join(other)}: resume it with the same, or use another folder"
        )
    model.load_state_dict(state["model"])
    for optimiser, kept in zip(optimisers, state["optimisers"], strict=True):
        optimiser.load_state_dict(kept)
    return state["step"], state["tokens"]


def _cut_log(folder: Path, *, step: int) -> None:
    """Drop the lines of steps that will be repeated, and an incomplete last line."""
    path = folder / "log.jsonl"
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] < step]
        partial = path.with_suffix(".partial")
        partial.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        partial.replace(path)


def _save(
    folder: Path,
    model: LlamaForCausalLM,
    optimisers: Sequence[torch.optim.Optimizer],
    settings: Mapping[str, Any],
    *,
    step: int,
    tokens: int,
) -> None:
    """Write the state to a new file and rename it, so that one complete state survives a kill."""
    partial = folder / "state.partial"
    kept = [optimiser.state_dict() for optimiser in optimisers]
    state = {"model": model.state_dict(), "optimisers": kept, "settings": settings, "step": step, "tokens": tokens}
    torch.save(state, partial)
    os.replace(partial, folder / "state.pt")


def _write_checkpoint(folder: Path, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase) -> None:
    model.save_pretrained(folder / "checkpoint")
    tokenizer.save_pretrained(folder / "checkpoint")


def _log(folder: Path, **values: Any) -> None:
    line = json.dumps(values)
    print(line, flush=True)
    with (folder / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write(line + "\n")


def family_and_share(text: str) -> tuple[Family, float]:
    """Read a family and its share of the problems, which has a default.

    >>> family_and_share("countdown"), family_and_share("arithmetic=0.2")
    (('countdown', 0.35), ('arithmetic', 0.2))

    Raises:
        ArgumentTypeError: there is no such family, or the share is not a positive number.
    """
    name, _, share = text.partition("=")
    for family, usual in FAMILIES.items():
        if family == name and (not share or _SHARE.fullmatch(share)):
            return family, float(share or usual)
    raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(FAMILIES)}, alone or with a share such as =0.2")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    families = " ".join(f"{family}={share}" for family, share in FAMILIES.items())
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--mix",
        choices=get_args(Mix),
        required=True,
        help="read sequential chains, planned runs, those with early ends, those with all ends, or quicker modes",
    )
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--start", type=Path, help="a checkpoint to start from instead of random weights")
    parser.add_argument("--peak", type=float, default=2e-3, help="the highest learning rate")
    parser.add_argument("--problems", type=int, default=8, help="problems per step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--processes",
        type=int,
        help="processes that share each step (default: one for each core, at most 4; one with a GPU)",
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of each process")
    parser.add_argument(
        "--families",
        nargs="+",
        type=family_and_share,
        default=list(FAMILIES.items()),
        metavar="FAMILY[=SHARE]",
        help=f"the kinds of problems and how often each is drawn (default: {families})",
    )
    parser.add_argument("--eager", action="store_true", help="do not compile the model")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train(
        arguments.folder,
        steps=arguments.steps,
        mix=arguments.mix,
        start=arguments.start,
        seed=arguments.seed,
        peak=arguments.peak,
        problems_per_step=arguments.problems,
        families=dict(arguments.families),
        compiled=not arguments.eager,
        processes=arguments.processes
        or (1 if torch.cuda.is_available() else min(_MOST_PROCESSES, os.cpu_count() or 1)),
    )


if __name__ == "__main__":
    main()
