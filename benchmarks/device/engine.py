"""The embedded engine on a device: its tokens, its speed, and what planning gains there."""

import asyncio
import gc
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, get_args

import clock
import torch
from decode_step import Load, measure
from tokenizers import Tokenizer

from sprint_agents import Run, Sampling, Sprint
from sprint_agents.context import Context
from sprint_agents.engine import Request
from sprint_agents.engines import LocalEngine
from sprint_agents.engines.local.loading import load_model
from sprint_agents.nano import nano_path
from sprint_finetune.costs import RunShape
from sprint_finetune.evaluation import OutcomeFile, held_out_problems
from sprint_finetune.evaluation.speedup import Replay
from sprint_finetune.nano.splits import Family

from .options import Figures, Options
from .shapes import HALF_BILLION, TINY, write_random

GREEDY = Sampling(temperature=0)
EASY = "Use 9, 5, 3 to make 42."
TWIN = Path(__file__).parents[2] / "finetune/models/sprint-nano-rft"


def questions(count: int) -> list[str]:
    """Draw ``count`` held-out problems of each family."""
    families: tuple[Family, ...] = get_args(Family)
    drawn = (itertools.islice(held_out_problems(family, seed=1), count) for family in families)
    return [task.prompt for tasks in drawn for task in tasks]


async def complete(engine: LocalEngine, text: str, *, tokens: int) -> list[int]:
    """Complete a text greedily."""
    context = Context().extend(await engine.encode(text), text)
    request = Request(id=text, context=context, max_tokens=tokens, sampling=GREEDY)
    return [id_ async for chunk in engine.complete(request) for id_ in chunk.ids]


async def completions(model: Path, tasks: Sequence[str], *, tokens: int, **chosen: Any) -> list[list[int]]:
    """Complete all tasks at once, and again one by one."""
    async with LocalEngine(model, **chosen) as engine:
        at_once = await asyncio.gather(*(complete(engine, f"{task}\n", tokens=tokens) for task in tasks))
        return [*at_once, *[await complete(engine, f"{task}\n<think>\n", tokens=tokens) for task in tasks]]


async def plans(tasks: Sequence[str], **chosen: Any) -> list[Run[str]]:
    """Have sprint-nano solve all tasks, one at a time, without early ends, which depend on what is fast."""
    async with LocalEngine(nano_path(), **chosen) as engine:
        sprint = Sprint(engine, sampling=GREEDY, settles=False)
        return [await sprint.run(task) for task in tasks]


def tokens(options: Options) -> Figures:
    """Compare greedy tokens with those of the CPU: by type, by model code, and of whole runs."""
    tasks = options[questions(4), [EASY]]
    run = partial(completions, TWIN, tasks, tokens=options[256, 24])
    expected = asyncio.run(run(device="cpu", dtype="float32"))
    found: Figures = {"of": len(expected)}
    for dtype, stock in (("float32", False), ("float32", True), ("bfloat16", False), ("float16", False)):
        made = asyncio.run(run(device=options.device, dtype=dtype, stock=stock))
        pairs = [*zip(expected, made, strict=True)]
        found[f"{dtype}, {'stock' if stock else 'own'} code"] = {
            "equal": sum(first == second for first, second in pairs),
            "equal_until": min(len(_common(first, second)) for first, second in pairs),
        }
    on_cpu, on_device = (asyncio.run(plans(tasks, device=each, dtype="float32")) for each in ("cpu", options.device))
    found["runs"] = len(tasks)
    found["equal_transcripts"] = sum(a.transcript == b.transcript for a, b in zip(on_cpu, on_device, strict=True))
    return found


def _common(first: Sequence[int], second: Sequence[int]) -> list[int]:
    return [a for a, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))]


def pairs(options: Options) -> Figures:
    """Measure the table of ``clock.py`` on a few problems."""
    counts = options[("12", "8", "8"), ("1", "0", "0")]
    chosen = clock.parse(["--problems", *counts, "--device", options.device])
    with OutcomeFile(options.folder / "clock.jsonl") as out:
        asyncio.run(clock.measure(chosen, out))
        return {
            "table": clock.table(chosen, out).splitlines(),
            "pairs": [outcome.model_dump() for outcome in out.outcomes.values()],
        }


def decode(options: Options) -> Figures:
    """Measure a decode step by width, with the engine's own model code and with transformers'."""
    found: Figures = {}
    for name, folder, dtype in _models(options):
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        models = {
            kind: replace(
                load_model(folder, device=options.device, dtype=dtype, stock=kind == "stock"), end_ids=frozenset[int]()
            )
            for kind in ("own", "stock")
        }
        prefix = random.Random(0).choices(range(20, 1000), k=options[1000, 40])
        for width in options[(1, 4, 16, 64, 128), (1, 3)]:
            load = Load(prefix, width, options[64, 4])
            rounds = [
                {kind: measure(model, tokenizer, load, options.clock) for kind, model in models.items()}
                for _ in range(options[3, 1])
            ][-2:]  # the first one warms up
            for kind in models:
                best = min((each[kind] for each in rounds), key=lambda one: one.step)
                found[f"{name}, width {width}, {kind} code"] = {"ms": best.step, "prefix_ms": best.prefill}
        del models
        _free(options)
    return found


def _models(options: Options) -> Iterator[tuple[str, Path, str]]:
    yield "sprint-nano, float32", nano_path(), "float32"
    shape = options[HALF_BILLION, TINY]
    yield "0.5B, bfloat16", write_random(options.folder / "random", shape, dtype=torch.bfloat16), "bfloat16"


def _free(options: Options) -> None:
    gc.collect()
    if options.on_cuda:
        torch.cuda.empty_cache()


def speedup(options: Options) -> Figures:
    """Replay runs of sprint-nano on models of two sizes: what planning gains, by how many run at once."""
    tasks = options[questions(3), [EASY]]
    shapes = [shape for run in asyncio.run(plans(tasks, device=options.device)) if (shape := RunShape.of(run))]
    found: Figures = {"widths": [shape.width for shape in shapes]}
    for name, folder, dtype in [*_models(options)][options[0, 1] :]:
        rows = asyncio.run(_replayed(LocalEngine(folder, device=options.device, dtype=dtype), shapes, options))
        found[name] = rows
        _free(options)
    return found


async def _replayed(engine: LocalEngine, shapes: Sequence[RunShape], options: Options) -> list[Figures]:
    rows: list[Figures] = []
    async with engine:
        replay = await Replay.on(engine)
        await replay.run(shapes[:1])
        for count in options[(1, 4, 16), (1,)]:
            groups = [[*itertools.islice(itertools.cycle(shapes), start, start + count)] for start in range(3)]
            replayed = [await replay.run(group) for group in groups[: options[3, 1]]]
            rows.append(
                {
                    "at_once": count,
                    "speed_up": median(one.speed_up for one in replayed),
                    "replays": [asdict(one) for one in replayed],
                }
            )
    return rows
