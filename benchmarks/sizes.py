"""What planning gains by the size of the model, the width of its plans and the runs at once, on three engines.

    make real sglang && python benchmarks/sizes.py --out sizes.json --plot sizes.svg

A run of width ``w`` has one plan with ``w`` prompts of eight tokens, ``w`` executions of ``--tokens`` tokens, and an
answer of sixteen. It is replayed by its lengths alone (``sprint-finetune speedup``), and then as many tokens in one
chain, so models need not know how to plan: sprint-nano (4 million weights), SmolLM2-135M, and random weights in the
shape of Qwen2.5-0.5B. A cell is the median of ``--rounds`` replays: how many times as fast the plans were. Each engine
has ``--seconds`` for each model, and cells that no longer fit are left out. On one thread, LocalEngine in float32,
SGLang in the checkpoint's type, llama.cpp in 4 bits. llama.cpp runs SmolLM2 alone, which there is a GGUF file of.
"""

import argparse
import asyncio
import itertools
import json
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch
from device.shapes import HALF_BILLION, TINY, write_random

sys.path.insert(0, str(Path(__file__).parents[1]))

from environments.real.llama_cpp import LlamaCppServer, Options
from environments.real.smollm2 import checkpoint_directory, gguf_file
from sprint_agents.engine import Engine
from sprint_agents.engines import LocalEngine, OpenAIEngine, SGLangEngine, SGLangServer
from sprint_agents.nano import nano_path
from sprint_finetune.costs import BranchShape, RunShape, StageShape
from sprint_finetune.evaluation.speedup import Replay

EngineKind = Literal["local", "llama.cpp", "sglang"]
ENGINES: tuple[EngineKind, ...] = ("local", "llama.cpp", "sglang")
MODELS = ("sprint-nano", "SmolLM2-135M", "random 0.5B")
PROMPT, ANSWER = 8, 16
ROOT = Path(__file__).parents[1]

Row = dict[str, Any]
"""A cell of the table as JSON."""


def shape_of(width: int, *, tokens: int) -> RunShape:
    """Return the lengths of a run with one stage of this width."""
    branches = tuple(BranchShape(plan_tokens=PROMPT * (index + 1), tokens=tokens) for index in range(width))
    stages = (StageShape(tokens=PROMPT * width + 1, branches=branches), StageShape(tokens=ANSWER))
    return RunShape(prompt_tokens=64, stages=stages)


def directory(model: str, folder: Path, *, dry_run: bool) -> Path:
    """Return the checkpoint of a model, which may have to be written."""
    if model == "sprint-nano":
        return nano_path()
    if model == "SmolLM2-135M":
        return checkpoint_directory()
    return write_random(folder / "random", TINY if dry_run else HALF_BILLION, dtype=torch.bfloat16)


@asynccontextmanager
async def served(kind: EngineKind, checkpoint: Path, *, slots: int) -> AsyncGenerator[Engine]:
    """Run a model on an engine; llama.cpp always runs SmolLM2."""
    if kind == "local":
        async with LocalEngine(checkpoint, dtype="float32", threads=1) as engine:
            yield engine
    elif kind == "llama.cpp":
        with LlamaCppServer(gguf_file(), Options(context=1024 * slots, slots=slots)) as started:
            url = f"{started.url}/v1"
            told = {"ignore_eos": True}
            async with OpenAIEngine(url, model=started.name, server="llama.cpp", extra=told) as engine:
                yield engine
    else:
        server = SGLangServer(checkpoint, python=ROOT / ".venv-sglang" / "bin" / "python")
        try:
            await server.start()
            async with SGLangEngine(server.url, tokenizer=checkpoint) as engine:
                yield engine
        finally:
            await server.stop()


async def measure(engine: Engine, options: argparse.Namespace) -> list[Row]:
    """Measure the cells of one model on one engine, as many as the time allows."""
    rows: list[Row] = []
    replay = await Replay.on(engine)
    await replay.run([shape_of(2, tokens=2)])  # the first request loads what all others find
    started, longest = time.perf_counter(), 0.0
    for count, width in itertools.product(options.at_once, options.widths):
        left = options.seconds - (time.perf_counter() - started)
        if left < longest:
            break
        begun = time.perf_counter()
        group = [shape_of(width, tokens=options.tokens)] * count
        replayed = [await replay.run(group) for _ in range(options.rounds)]
        longest = max(longest, time.perf_counter() - begun)
        rows.append(
            {
                "at_once": count,
                "width": width,
                "planned": median(one.planned for one in replayed),
                "chains": median(one.chains for one in replayed),
                "speed_up": median(one.speed_up for one in replayed),
            }
        )
    return rows


def table(rows: Sequence[Row], options: argparse.Namespace) -> str:
    """Return the table as Markdown."""
    cells = [*itertools.product(options.at_once, options.widths)]
    lines = [
        "| model | engine | " + " | ".join(f"{count} at once, width {width}" for count, width in cells) + " |",
        "|---|---|" + "---:|" * len(cells),
    ]
    for model, kind in dict.fromkeys((row["model"], row["engine"]) for row in rows):
        found = {
            (row["at_once"], row["width"]): f"{row['speed_up']:.2f}"
            for row in rows
            if (row["model"], row["engine"]) == (model, kind)
        }
        lines.append(f"| {model} | {kind} | " + " | ".join(found.get(cell, "-") for cell in cells) + " |")
    return "\n".join(lines)


def draw(rows: Sequence[Row], path: Path) -> None:
    """Write a plot of the speed-up by width, one line for each model and engine, one panel for each number at once."""
    from matplotlib.figure import Figure

    counts = [*dict.fromkeys(row["at_once"] for row in rows)]
    figure = Figure(figsize=(5 * len(counts), 4), layout="constrained")
    panels = figure.subplots(1, len(counts), squeeze=False, sharey=True)[0]
    for panel, count in zip(panels, counts, strict=True):
        for model, kind in dict.fromkeys((row["model"], row["engine"]) for row in rows):
            mine = [row for row in rows if (row["model"], row["engine"], row["at_once"]) == (model, kind, count)]
            widths = [row["width"] for row in mine]
            panel.plot(widths, [row["speed_up"] for row in mine], marker="o", label=f"{model}, {kind}")
        panel.axhline(1, color="gray", linewidth=0.8)
        panel.set(xlabel="width", ylabel="times as fast as a chain", title=f"{count} at once")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper")
    figure.savefig(path)


async def main(options: argparse.Namespace) -> None:
    """Measure, and print the table."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        for model, kind in itertools.product(options.models, options.engines):
            if kind == "llama.cpp" and model != "SmolLM2-135M":
                continue
            checkpoint = directory(model, Path(name), dry_run=options.dry_run)
            slots = max(options.at_once) * max(options.widths) + max(options.at_once)
            async with served(kind, checkpoint, slots=slots) as engine:
                found = await measure(engine, options)
            rows += [{"model": model, "engine": kind, **row} for row in found]
            print(f"{model} on {kind}: {len(found)} cells", file=sys.stderr, flush=True)
            if options.out:
                options.out.write_text(json.dumps(rows, indent=2) + "\n")
    print(table(rows, options))
    if options.plot:
        draw(rows, options.plot)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--widths", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--tokens", type=int, default=32, help="of each execution")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60, help="for one model on one engine, without its start")
    parser.add_argument("--dry-run", action="store_true", help="a tiny model instead of the random one")
    parser.add_argument("--out", type=Path, help="a JSON file")
    parser.add_argument("--plot", type=Path, help="an SVG or PNG file")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    asyncio.run(main(parse()))
