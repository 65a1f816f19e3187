"""What SGLang computes: the model's own log-probabilities, of cached prefixes too."""

import asyncio
from pathlib import Path

import pytest

from sprint_agents.context import Context
from sprint_agents.engine import Engine, Sampling
from sprint_agents.engines import LocalEngine
from sprint_agents.engines.sglang import SGLangEngine, SGLangServer
from sprint_agents.testing.contract import Completion, complete, request_of

TASK = "Use 50, 25, 7, 3 to make 81.\n"


async def completed(engine: Engine, sampling: Sampling) -> Completion:
    context = Context().extend(await engine.encode(TASK), TASK)
    return await complete(engine, request_of(context, max_tokens=24, sampling=sampling))


def test_they_are_those_of_the_embedded_engine(server: SGLangServer, checkpoint: Path) -> None:
    async def main() -> None:
        sampling = Sampling(temperature=0, logprobs=3)
        async with SGLangEngine(server.url, tokenizer=checkpoint) as served, LocalEngine(checkpoint) as embedded:
            there, here = await completed(served, sampling), await completed(embedded, sampling)
            assert there.ids == here.ids
            for one, other in zip(there.logprobs, here.logprobs, strict=True):
                assert one.logprob == pytest.approx(other.logprob, abs=0.02)
                assert dict(one.top)[one.token] == pytest.approx(one.logprob, abs=1e-4)
            again = await completed(served, sampling)
            assert again.finish.cached_tokens >= again.finish.prompt_tokens - 1

    asyncio.run(main())


def test_the_further_settings_are_understood(server: SGLangServer, checkpoint: Path) -> None:
    async def main() -> None:
        async with SGLangEngine(server.url, tokenizer=checkpoint) as engine:
            plain = await completed(engine, Sampling(temperature=0))
            banned = await completed(engine, Sampling(temperature=0, logit_bias={plain.ids[0]: -100.0}))
            assert plain.ids[0] not in banned.ids
            penalties = {"presence_penalty": 1.0, "frequency_penalty": 1.0, "repetition_penalty": 1.5}
            adjusted = Sampling(temperature=0, min_p=0.1, **penalties)
            assert (await completed(engine, adjusted)).ids == (await completed_here(checkpoint, adjusted)).ids

    asyncio.run(main())


async def completed_here(checkpoint: Path, sampling: Sampling) -> Completion:
    async with LocalEngine(checkpoint) as engine:
        return await completed(engine, sampling)
