"""A run that continues another one on the embedded engine: the radix cache has all of its tokens."""

import asyncio

import pytest

from sprint_agents import Sprint
from sprint_agents.engines import LocalEngine
from sprint_agents.nano import nano_path

pytestmark = pytest.mark.local


def test_the_cache_has_all_tokens_of_the_finished_run() -> None:
    async def main() -> None:
        async with LocalEngine(nano_path(), threads=1) as engine:
            sprint = Sprint(engine)
            first = await sprint.run("Use 25, 7, 3 to make 46.")
            answered = first.stages[-1].calls[-1].usage
            # Failed or not: the model was not trained on conversations.
            async with sprint.map(["Use 5, 6, 8 to make 38."], after=first) as runs:
                second = await anext(aiter(runs))
            request = second.stages[0].calls[0].usage
            assert second.transcript.startswith(first.transcript)
            assert request.cached_tokens >= answered.prompt_tokens + answered.generated_tokens - 1
            assert request.prompt_tokens - request.cached_tokens <= 40  # the new question
            assert engine.statistics().running == 0

    asyncio.run(main())
