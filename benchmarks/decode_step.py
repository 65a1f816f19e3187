"""Measure a decode step of the embedded engine: its own forward pass against transformers' model code, in turns.

    python benchmarks/decode_step.py [--model DIR] [--branches 1 4 12 32] [--threads 1 2] [--llama-cpp]

Branches share a prefix of ``--prefix`` tokens and decode ``--tokens`` tokens each, greedily. A row has the milliseconds
of a step, which is one token of every branch: the fastest of ``--rounds`` rounds, each the first decile of its steps,
since other programs only add time. On one thread it is the thread's CPU time, on more the time by the clock. The two
contenders take turns in every round; "equal" says whether they wrote the same tokens. The last columns are the
milliseconds for the prefix.

The default model is sprint-nano. With ``--llama-cpp`` it is SmolLM2-135M, and llama.cpp's server decodes as many
branches of the same length in 4 bits (``make real``): from the last first token to the end, divided by the steps.
"""

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tokenizers import Tokenizer

sys.path.insert(0, str(Path(__file__).parents[1]))

from environments.real.llama_cpp import LlamaCppServer, Options
from environments.real.smollm2 import checkpoint_directory, gguf_file
from sprint_agents.context import Context
from sprint_agents.engine import Request, Sampling
from sprint_agents.engines import OpenAIEngine
from sprint_agents.engines.local.loading import load_model
from sprint_agents.engines.local.model import Model
from sprint_agents.engines.local.scheduler import Scheduler
from sprint_agents.nano import nano_path

SENTENCE = "The quick brown fox jumps over the lazy dog near the river bank. "
GREEDY = Sampling(temperature=0)


@dataclass(frozen=True)
class Load:
    """What every branch reads and writes."""

    prefix: list[int]
    branches: int
    tokens: int


@dataclass(frozen=True)
class Measured:
    """Milliseconds of a step and of the prefix, and all tokens that were written, in order."""

    step: float
    prefill: float
    tokens: list[tuple[int, ...]]


def measure(model: Model, tokenizer: Tokenizer, load: Load, clock: Callable[[], float]) -> Measured:
    """Compute the prefix, and then decode all branches to their ends."""
    size = len(load.prefix) + load.branches * (load.tokens + 8)
    scheduler = Scheduler(model, tokenizer, cache_tokens=4 * size, prefill_chunk=256, max_running=load.branches)

    def submit(ids: list[int], tokens: int) -> None:
        request = Request(id="", context=Context(), max_tokens=tokens, sampling=GREEDY)
        scheduler.submit(request, [*ids])

    started = clock()
    submit(load.prefix, 0)
    while not scheduler.idle:
        scheduler.step()
    prefill = clock() - started
    for branch in range(load.branches):
        submit([*load.prefix, 20 + branch, 33], load.tokens)
    tokens = [output.tokens for _, output in scheduler.step()]
    seconds: list[float] = []
    while not scheduler.idle:
        started = clock()
        outputs = scheduler.step()
        seconds.append(clock() - started)
        tokens += [output.tokens for _, output in outputs]
    return Measured(1000 * sorted(seconds)[len(seconds) // 10], 1000 * prefill, tokens)


def compare(directory: Path, options: argparse.Namespace, *, threads: int) -> None:
    """Print the rows of both contenders on so many threads."""
    torch.set_num_threads(threads)
    clock = time.thread_time if threads == 1 else time.perf_counter
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    # Without end tokens, so that all branches are equally long.
    own, stock = (
        replace(load_model(directory, device="cpu", dtype="float32", stock=stock), end_ids=frozenset())
        for stock in (False, True)
    )
    draw = random.Random(0)
    prefix = draw.choices(range(20, 1000), k=options.prefix)
    for branches in options.branches:
        load = Load(prefix, branches, options.tokens)
        rounds = [
            (measure(own, tokenizer, load, clock), measure(stock, tokenizer, load, clock))
            for _ in range(options.rounds)
        ]
        mine, theirs = (min(each.step for each in contender) for contender in zip(*rounds, strict=True))
        prefills = [min(each.prefill for each in contender) for contender in zip(*rounds, strict=True)]
        equal = "yes" if all(first.tokens == second.tokens for first, second in rounds) else "no"
        cells = [f"{threads}", f"{branches}", f"{theirs:.2f}", f"{mine:.2f}", f"{theirs / mine:.2f}", equal]
        print(f"| {' | '.join(cells)} | {prefills[1]:.0f} | {prefills[0]:.0f} |", flush=True)


async def llama_cpp_step(engine: OpenAIEngine, load: Load) -> float:
    """Return the milliseconds of a step of the server, measured from outside."""
    first: list[float] = []
    text = SENTENCE * (len(load.prefix) // 14)
    ids = await engine.encode(text)

    async def one(branch: int) -> None:
        more = f"{20 + branch}."
        context = Context().extend(ids, text).extend(await engine.encode(more), more)
        seen = False
        async for chunk in engine.complete(
            Request(id=f"{branch}", context=context, max_tokens=load.tokens, sampling=GREEDY)
        ):
            if chunk.ids and not seen:
                seen = True
                first.append(time.perf_counter())

    await asyncio.gather(*(one(branch) for branch in range(load.branches)))
    return 1000 * (time.perf_counter() - max(first)) / (load.tokens - 1)


def serve(options: argparse.Namespace, *, threads: int) -> None:
    """Print the rows of llama.cpp's server."""
    for branches in options.branches:
        context = branches * (options.prefix + options.tokens + 128)
        with LlamaCppServer(gguf_file(), Options(context=context, slots=branches, threads=threads)) as server:
            engine = OpenAIEngine(f"{server.url}/v1", model=server.name, server="llama.cpp", extra={"ignore_eos": True})
            load = Load([0] * options.prefix, branches, options.tokens)

            async def rounds(engine: OpenAIEngine = engine, load: Load = load) -> list[float]:
                async with engine:
                    return [await llama_cpp_step(engine, load) for _ in range(options.rounds)]

            print(f"| {threads} | {branches} | llama.cpp {min(asyncio.run(rounds())):.2f} |", flush=True)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a checkpoint directory (default: sprint-nano)")
    parser.add_argument("--branches", type=int, nargs="+", default=[1, 4, 12, 32])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--prefix", type=int, default=300)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--llama-cpp", action="store_true")
    options = parser.parse_args()
    directory = options.model or (checkpoint_directory() if options.llama_cpp else nano_path())
    print("| threads | branches | stock, ms | own, ms | ratio | equal | prefix, stock | prefix, own |")
    print("|---:|---:|---:|---:|---:|---|---:|---:|")
    for threads in options.threads:
        compare(directory, options, threads=threads)
        if options.llama_cpp:
            serve(options, threads=threads)


if __name__ == "__main__":
    main()
