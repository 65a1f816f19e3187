"""Measure the embedded engine on branches that share a prefix, against what transformers itself offers.

    python benchmarks/local_engine.py [--model DIR] [--branches 1 4 16 32 64] [--tokens 64] [--threads 1]

Every contender gets the same prompts (a shared prefix of ``--prefix`` tokens, then two that differ), and decodes
``--tokens`` tokens for each greedily, with the same weights in the same process. Its outputs are compared with those of
batched ``generate``. Rates are generated tokens per second, from the submission of all requests to the last
token, so the prefill counts ("warm": the prefix was in the cache). ``generate`` one by one has one rate, whatever the
number of branches. Continuous batching runs with pages of 32 tokens (its default of 256 shares less), a pool as large
as it needs, and block sharing. The default model has sprint-nano's shape and random weights.
"""

import argparse
import asyncio
import logging
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig, LlamaForCausalLM
from transformers.utils import logging as transformers_logging

from sprint_agents.context import Context
from sprint_agents.engine import Finish, Request, Sampling
from sprint_agents.engines.local import LocalEngine
from sprint_finetune.nano.pretrain import nano_config
from sprint_finetune.nano.tokenizer import build_tokenizer

GOAL = 8.0
"""The goal at 32 branches, in multiples of continuous batching's rate."""

Ids = list[int]


@dataclass(frozen=True)
class Load:
    """The prompts that every contender gets."""

    prefix: Ids
    prompts: list[Ids]
    tokens: int


@dataclass(frozen=True)
class Measured:
    """Outputs by prompt, seconds, and the peak of the process's memory above its start, in MiB."""

    outputs: list[Ids]
    seconds: float
    peak: float

    @property
    def rate(self) -> float:
        """Generated tokens per second."""
        return sum(map(len, self.outputs)) / self.seconds


def resident(field: str) -> float:
    """Return a field of this process's memory in MiB; 0 where the system has no /proc."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0.0
    return next(int(line.split()[1]) / 1024 for line in status.read_text().splitlines() if line.startswith(field))


def measure(work: Callable[[], list[Ids]]) -> Measured:
    """Run ``work``, with the memory peak counted from now."""
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")
    before, start = resident("VmRSS"), time.perf_counter()
    outputs = work()
    return Measured(outputs, time.perf_counter() - start, resident("VmHWM") - before)


async def ask(engine: LocalEngine, ids: Ids, *, tokens: int, request_id: str) -> tuple[Ids, Finish]:
    """Complete one prompt."""
    request = Request(
        id=request_id,
        context=Context().extend(ids, ""),
        max_tokens=tokens,
        sampling=Sampling(temperature=0),
    )
    output: Ids = []
    finish: Finish | None = None
    async for chunk in engine.complete(request):
        output += chunk.ids
        finish = chunk.finish
    assert finish is not None
    return output, finish


class Local:
    """The embedded engine; a new one per round, so that the first measurement is cold."""

    def __init__(self, directory: Path, load: Load) -> None:
        self.load = load
        self.runner = asyncio.Runner()
        self.engine = LocalEngine(directory)
        self.runner.run(self.engine.__aenter__())
        self.cached: list[int] = []
        self.rounds = 0

    def run(self) -> list[Ids]:
        """All prompts at once."""

        async def all_at_once() -> list[tuple[Ids, Finish]]:
            return await asyncio.gather(
                *(
                    ask(self.engine, ids, tokens=self.load.tokens, request_id=f"{self.rounds}-{number}-")
                    for number, ids in enumerate(self.load.prompts)
                )
            )

        self.rounds += 1
        answers = self.runner.run(all_at_once())
        self.cached = [finish.cached_tokens for _, finish in answers]
        return [output for output, _ in answers]

    def close(self) -> None:
        """Free the engine."""
        self.runner.run(self.engine.aclose())
        self.runner.close()


def one_by_one(model: Any, load: Load) -> list[Ids]:
    """Call ``generate`` for each prompt."""
    return [output for ids in load.prompts for output in batched(model, Load(load.prefix, [ids], load.tokens))]


def batched(model: Any, load: Load) -> list[Ids]:
    """Call ``generate`` once for all prompts, which are equally long."""
    ids = torch.tensor(load.prompts)
    output = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=greedy(model, load.tokens))
    return [_until_end(model, row) for row in output[:, ids.shape[1] :].tolist()]


def continuous(model: Any, load: Load) -> list[Ids]:
    """Call transformers' continuous batching."""
    page = 32
    pages = sum(-(-(len(ids) + load.tokens) // page) + 1 for ids in load.prompts)
    results = model.generate_batch(
        load.prompts,
        generation_config=greedy(model, load.tokens),
        continuous_batching_config=ContinuousBatchingConfig(
            page_size=page, num_blocks=pages, max_batch_tokens=max(256, len(load.prompts)), use_cuda_graph=False
        ),
    )
    by_prompt = {tuple(result.prompt_ids): result.generated_tokens for result in results.values()}
    return [by_prompt.get(tuple(ids), []) for ids in load.prompts]


def greedy(model: Any, tokens: int) -> GenerationConfig:
    """Make settings for greedy decoding."""
    end = model.generation_config.eos_token_id
    return GenerationConfig(max_new_tokens=tokens, do_sample=False, eos_token_id=end, pad_token_id=end)


def _until_end(model: Any, ids: Ids) -> Ids:
    end = model.generation_config.eos_token_id
    return ids[: ids.index(end) + 1] if end in ids else ids


@contextmanager
def nano() -> Iterator[Path]:
    """Write a model of sprint-nano's shape with random weights."""
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        tokenizer = build_tokenizer()
        LlamaForCausalLM(nano_config(len(tokenizer))).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        yield Path(folder)


@dataclass(frozen=True)
class Row:
    """All contenders at one number of branches."""

    load: Load
    local: Measured
    warm: float
    cached: int
    stored: int
    batch: Measured
    paged: Measured | None

    def cells(self, single: float) -> list[str]:
        """Format the row of the table."""
        rates = (self.local.rate, self.warm, single, self.batch.rate)
        paged = self.paged
        return [
            f"{len(self.load.prompts)}",
            *(f"{rate:.0f}" for rate in rates),
            f"{paged.rate:.0f}" if paged else "-",
            f"{self._equal(self.local)}/{self._equal(paged) if paged else '-'}",
            f"{self.local.rate / paged.rate:.1f}x" if paged else "-",
        ]

    def note(self) -> str:
        """Say what was cached and stored, and the memory it took."""
        branches, prefix = len(self.load.prompts), len(self.load.prefix)
        asked = sum(map(len, self.load.prompts))
        return (
            f"{branches:>3} branches: {self.cached} of {asked} prompt tokens cached from cold; "
            f"a fork stores {(self.stored - prefix) / branches:.1f} tokens; peak memory {self.local.peak:.0f} MiB "
            f"local, {self.batch.peak:.0f} batched" + (f", {self.paged.peak:.0f} continuous" if self.paged else "")
        )

    def _equal(self, other: Measured) -> int:
        return sum(mine == theirs for mine, theirs in zip(other.outputs, self.batch.outputs, strict=True))


def measure_all(directory: Path, model: Any, load: Load, *, rounds: int) -> Row:
    """Measure every contender under one load."""
    local = Local(directory, load)
    cold = measure(local.run)
    cached, stored = sum(local.cached), local.engine.statistics().stored_tokens
    warm = median(measure(local.run).rate for _ in range(rounds))
    local.close()
    batch = measure(partial(batched, model, load))
    # Its sizing on CPU asks psutil for the memory there is.
    paged = measure(partial(continuous, model, load)) if find_spec("psutil") else None
    return Row(load, cold, warm, cached, stored, batch, paged)


def compare(directory: Path, options: argparse.Namespace) -> None:
    """Measure all contenders at every number of branches, and print the table."""
    model: Any = AutoModelForCausalLM.from_pretrained(directory)
    config = model.config
    draw = random.Random(0)
    prefix = draw.choices(range(16, config.vocab_size), k=options.prefix)
    pairs = [(first, second) for first in range(16, 32) for second in range(16, 32)]
    single = measure(partial(one_by_one, model, Load(prefix, [[*prefix, *pair] for pair in pairs[:2]], options.tokens)))
    print(f"generated tokens per second; {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters,", end=" ")
    print(f"prefix {options.prefix}, {options.tokens} tokens per branch, {options.threads} thread(s)")
    columns = ("branches", "local", "local warm", "one by one", "batched", "continuous", "equal", "local/cb")
    print("".join(f"{column:>12}" for column in columns))
    notes: list[str] = []
    for branches in options.branches:
        load = Load(prefix, [[*prefix, *pair] for pair in draw.sample(pairs, branches)], options.tokens)
        row = measure_all(directory, model, load, rounds=options.rounds)
        print("".join(f"{cell:>12}" for cell in row.cells(single.rate)), flush=True)
        notes.append(row.note())
    size = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * 4
    print(*notes, sep="\n")
    print(f"a stored token takes {size / 1024:.0f} KiB; equal: outputs like batched generate's, of local/continuous")
    print(f"goal: at least {GOAL:.0f}x continuous batching at 32 branches, and the rate still rising at 64")
    if not find_spec("psutil"):
        print("continuous batching was left out: on CPU it needs psutil (pip install psutil)")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a Hugging Face directory (default: random weights)")
    parser.add_argument("--branches", type=int, nargs="+", default=[1, 4, 16, 32, 64])
    parser.add_argument("--prefix", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3, help="of the warm measurement, whose median counts")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    logging.disable(logging.WARNING)
    if options.model:
        compare(options.model, options)
    else:
        with nano() as directory:
            compare(directory, options)


if __name__ == "__main__":
    main()
