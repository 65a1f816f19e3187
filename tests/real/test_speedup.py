"""Replays of recorded lengths on a real server that takes conversations."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator

from environments.real.llama_cpp import LlamaCppServer
from sprint_agents.engine import Chunk, Request
from sprint_agents.engines import OpenAIEngine
from sprint_agents.wrapped_engine import WrappedEngine
from sprint_finetune.costs import BranchShape, RunShape, StageShape
from sprint_finetune.evaluation.speedup import Replay

BRANCHES = (BranchShape(plan_tokens=4, tokens=7), BranchShape(plan_tokens=8, tokens=9, after=(0,)))
SHAPE = RunShape(prompt_tokens=30, stages=(StageShape(tokens=12, branches=BRANCHES), StageShape(tokens=5)))


class Counting(WrappedEngine):
    """Counts completions by the tokens that the server says it generated."""

    def __init__(self, engine: OpenAIEngine) -> None:
        super().__init__(engine)
        self.lengths = Counter[int | None]()

    async def complete(self, request: Request) -> AsyncGenerator[Chunk]:
        async for chunk in super().complete(request):
            if chunk.finish:
                self.lengths[chunk.finish.generated_tokens] += 1
            yield chunk


def test_a_conversation_has_the_lengths_of_the_run(llama_cpp: LlamaCppServer) -> None:
    async def main() -> Counter[int | None]:
        openai = OpenAIEngine(
            f"{llama_cpp.url}/v1", model=llama_cpp.name, server="llama.cpp", extra={"ignore_eos": True}
        )
        async with Counting(openai) as engine:
            replayed = await (await Replay.on(engine)).run([SHAPE])
            assert replayed.speed_up > 0
            return engine.lengths

    assert asyncio.run(main()) == Counter([12, 7, 9, 5, 33])
