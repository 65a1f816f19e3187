"""One base model with an adapter for the planner and another one for its executors."""

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from sprint_agents import Answer, Engine, Executor, Plan, Sprint
from sprint_agents.context import Context
from sprint_agents.engine import Chunk, Request
from sprint_agents.engines.local import LocalEngine
from sprint_agents.engines.sglang import SGLangEngine

from .conftest import started
from .counters import Counters
from .runs import GREEDY, computed, held_out, most_of_its_own

SEEDS = {"planner": 5, "executor": 4}
PROMPTS = [f"{number} + 7" for number in range(21, 29)]


@dataclass(frozen=True)
class Adapters:
    """A server, and the checkpoints into which its adapters are merged; the base has the name ``""``."""

    url: str
    merged: dict[str, Path]

    async def engines(self, stack: AsyncExitStack, *names: str) -> list[SGLangEngine]:
        made = [
            SGLangEngine(self.url, tokenizer=self.merged[""], extra={"lora_path": name} if name else None)
            for name in names
        ]
        return [await stack.enter_async_context(engine) for engine in made]

    async def local(self, stack: AsyncExitStack, *names: str) -> list[LocalEngine]:
        return [await stack.enter_async_context(LocalEngine(self.merged[name])) for name in names]


def write_adapter(checkpoint: Path, directory: Path, *, seed: int) -> Path:
    """Write an adapter that changes much of what sprint-nano writes but not its form; return the merged checkpoint."""
    merged = directory.with_name(f"{directory.name}-merged")
    shutil.copytree(checkpoint, merged)
    torch.manual_seed(seed)
    config = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules="all-linear")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(checkpoint), config)
    for name, weights in model.named_parameters():
        if "lora_B" in name:  # zeros
            torch.nn.init.normal_(weights, std=0.3)
    model.save_pretrained(str(directory))
    model.merge_and_unload().save_pretrained(merged)
    return merged


@pytest.fixture(scope="module")
def adapters(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adapters]:
    folder = tmp_path_factory.mktemp("adapters")
    merged = {name: write_adapter(checkpoint, folder / name, seed=seed) for name, seed in SEEDS.items()}
    settings = ("--lora-backend", "torch_native", "--lora-paths", *(f"{name}={folder / name}" for name in SEEDS))
    unpinned = {"PYTHONPATH": str(Path(__file__).with_name("unpinned"))}
    with started(checkpoint, *settings, environment=unpinned) as server:
        yield Adapters(server.url, {"": checkpoint, **merged})


async def transcripts(planner: Engine, executor: Engine) -> list[str]:
    sprint = Sprint(planner, executor=Executor(engine=executor), sampling=GREEDY, settles=False)
    runs = await asyncio.gather(*map(sprint.run, held_out(2, seed=9)))
    return [run.transcript for run in runs]


def test_a_run_is_that_of_two_merged_checkpoints(adapters: Adapters) -> None:
    async def main() -> None:
        async with AsyncExitStack() as stack:
            served = await adapters.engines(stack, "planner", "executor")
            base, planner, executor = await adapters.local(stack, "", "planner", "executor")
            expected = await transcripts(planner, executor)
            assert await transcripts(*served) == expected
            for pair in ((base, base), (planner, planner), (executor, executor), (executor, planner)):
                assert not set(await transcripts(*pair)) & set(expected)

    asyncio.run(main())


def test_requests_for_different_adapters_run_at_the_same_time(adapters: Adapters) -> None:
    """Each gets the tokens of its own adapter, and finds only its own in the cache."""
    names = ["", "planner", "executor"]

    def ask(engine: Engine, name: str, at: Context) -> Request:
        return Request(id=f"lora-{name or 'base'}", context=at, max_tokens=40, sampling=GREEDY)

    async def main() -> None:
        async with Counters(adapters.url) as counters, AsyncExitStack() as stack:
            served, local = await adapters.engines(stack, *names), await adapters.local(stack, *names)
            await counters.idle()
            await counters.forget()
            text = "Use 25, 7, 3 to make 81.\n<Plan_1>"
            at = Context().extend(await served[0].encode(text), text)
            for cached in (0, len(at) - 1):
                streams = [
                    await stack.enter_async_context(aclosing(engine.complete(ask(engine, name, at))))
                    for name, engine in zip(names, served, strict=True)
                ]
                first = await asyncio.gather(*map(anext, streams))
                assert [chunk.finish for chunk in first] == [None] * 3
                chunks: list[list[Chunk]] = [
                    [begun, *[chunk async for chunk in stream]] for begun, stream in zip(first, streams, strict=True)
                ]
                ends = [each[-1].finish for each in chunks]
                assert [end and end.cached_tokens for end in ends] == [cached] * 3
                written = [[token for chunk in each for token in chunk.ids] for each in chunks]
                expected = [
                    [token async for chunk in engine.complete(ask(engine, name, at)) for token in chunk.ids]
                    for name, engine in zip(names, local, strict=True)
                ]
                assert written == expected
                assert written[0] != written[1] != written[2] != written[0]

    asyncio.run(main())


def test_one_executor_reads_for_those_with_its_adapter(adapters: Adapters) -> None:
    async def policy(planning):
        yield Plan.of(*PROMPTS)
        yield Answer(value="done")

    async def main() -> None:
        async with Counters(adapters.url) as counters, AsyncExitStack() as stack:
            planner, executor = await adapters.engines(stack, "planner", "executor")
            await counters.idle()
            await counters.forget()
            before = await counters.load()
            sprint = Sprint(planner, executor=Executor(engine=executor), policy=policy, sampling=GREEDY)
            run = await sprint.run(held_out(1, seed=9)[0])
            await counters.idle()
            after = await counters.load()
            *others, reader = computed(run.stages[0])
            assert reader == run.stages[0].executions[-1].usage.prompt_tokens
            assert max(others) <= await most_of_its_own(executor)
            assert after.computed_prompt_tokens - before.computed_prompt_tokens == run.usage.recomputed_tokens

    asyncio.run(main())
