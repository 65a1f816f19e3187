"""Count the prompt tokens that a LoRA adapter for the executors costs, on a real SGLang server.

    make sglang && python benchmarks/adapters.py

One adapter with random weights is loaded under two names, so that all ways compute the same texts. "One engine" has it
for planner and executors. "Two engines" are two clients of the same adapter. "Two adapters" give the executors the
second name. Each way solves ``--problems`` tasks, one after the other, from an empty cache. Then, also from an empty
cache, it runs a policy's plan of ``--width`` executors over about ``--context`` tokens. The counts are the server's.
"""

import argparse
import asyncio
import shutil
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from radix import GREEDY, Cost, held_out, parser, served
from transformers import AutoModelForCausalLM

from sprint_agents import Answer, Executor, Plan, Planning, Sprint, Stage, Step
from sprint_agents.engines import SGLangEngine

UNPINNED = Path(__file__).parents[1] / "tests" / "sglang" / "unpinned"
"""Without a GPU, SGLang needs it to serve adapters."""


def write_adapter(model: Path, directory: Path) -> None:
    """Write an adapter that changes what the model writes, but not the form of sprint-nano's plans."""
    torch.manual_seed(2)
    config = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules="all-linear")
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(model), config)
    for name, weights in adapted.named_parameters():
        if "lora_B" in name:  # zeros
            torch.nn.init.normal_(weights, std=0.25)
    adapted.save_pretrained(str(directory))


async def solve(planner: SGLangEngine, executors: SGLangEngine, tasks: Sequence[str], **options: Any) -> None:
    """Solve the tasks one after the other."""
    sprint = Sprint(planner, executor=Executor(engine=executors), sampling=GREEDY, settles=False, **options)
    for task in tasks:
        await sprint.run(task)


async def compare(options: argparse.Namespace, folder: Path) -> None:
    """Print the table."""

    async def policy(planning: Planning) -> AsyncGenerator[Step, Stage[Any]]:
        prompts = (f"48+{number}" for number in range(1, options.width + 1))
        yield Plan.of(*prompts, text="48+24=72\n" * (options.context // 6))
        yield Answer(value="done")

    tasks = held_out(options.problems, seed=9, numbers=3)
    write_adapter(options.model, folder / "first")
    shutil.copytree(folder / "first", folder / "second")
    paths = [f"{name}={folder / name}" for name in ("first", "second")]
    environment = None if torch.accelerator.is_available() else {"PYTHONPATH": str(UNPINNED)}
    arguments = ("--lora-backend", options.lora_backend, "--lora-paths", *paths)
    print("| way | the model plans | cached | a policy's plan | cached |\n|---|---:|---:|---:|---:|")
    async with (
        served(options, *arguments, environment=environment) as server,
        AsyncExitStack() as stack,
    ):
        first, again, second = [
            await stack.enter_async_context(
                SGLangEngine(server.url, tokenizer=options.model, extra={"lora_path": name})
            )
            for name in ("first", "first", "second")
        ]
        for way, executors in {"one engine": first, "two engines": again, "two adapters": second}.items():
            planned: Cost = await server.measure(partial(solve, first, executors, tasks))
            given: Cost = await server.measure(partial(solve, first, executors, tasks[:1], policy=policy))
            print(f"| {way} | {planned.computed} | {planned.cached} | {given.computed} | {given.cached} |")


def main() -> None:
    """Read the options and print the table."""
    options = parser(__doc__)
    options.add_argument("--lora-backend", default="torch_native", help="of the server")
    options.add_argument("--problems", type=int, default=4)
    options.add_argument("--width", type=int, default=8)
    options.add_argument("--context", type=int, default=1000, help="tokens, roughly")
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(compare(options.parse_args(), Path(folder)))


if __name__ == "__main__":
    main()
