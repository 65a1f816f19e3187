"""A completion under a scarce budget has the tokens that it has without one."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from sprint_agents import Budget, Limits, Run, Sampling, Sprint, State
from sprint_agents.context import Context
from sprint_agents.engines.local import LocalEngine
from sprint_agents.generation import Generation
from sprint_agents.nano import nano_path
from sprint_agents.state import Stops
from sprint_agents.testing.contract import complete, request_of

pytestmark = pytest.mark.local
Make = Callable[..., LocalEngine]

SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"names": {"type": "array", "items": {"enum": ["cat", "dog"]}, "minItems": 4, "maxItems": 4}},
        "required": ["names"],
        "additionalProperties": False,
    }
)


async def generate(engine: LocalEngine, pieces: Sequence[int], *, sampling: Sampling, schema: str | None) -> Generation:
    """Complete a context in pieces of these sizes."""
    state = State(engine, Context().extend(await engine.encode("Q: "), "Q: "), sampling=sampling)
    grants = iter(pieces[1:])

    async def extend() -> int:
        return next(grants, 0)

    stops = Stops(texts=("\x00\x00\x00",))
    async with state.stream(max_tokens=pieces[0], schema=schema, stops=stops, extend=extend) as generation:
        await generation.drain()
    return generation


@pytest.mark.parametrize("schema", [None, SCHEMA], ids=["text", "schema"])
@pytest.mark.parametrize(
    "sampling", [Sampling(temperature=0), Sampling(temperature=1.5, seed=7)], ids=["greedy", "seed"]
)
def test_the_same_tokens_in_one_request_or_many(make_engine: Make, sampling: Sampling, schema: str | None) -> None:
    if schema:
        pytest.importorskip("llguidance")

    async def main() -> None:
        async with make_engine() as engine:
            whole = await generate(engine, [60], sampling=sampling, schema=schema)
            for pieces in ([1, 59], [7, 1, 30, 22], [1] * 60):
                parts = await generate(engine, pieces, sampling=sampling, schema=schema)
                assert parts.ids == whole.ids
                assert parts.text == whole.text
                assert parts.finish is not None
                assert whole.finish is not None
                assert (parts.finish.reason, parts.finish.matched) == (whole.finish.reason, whole.finish.matched)
                assert len(parts.request_ids) > 1
                start = len(await engine.encode("Q: "))
                assert parts.prompt_tokens - parts.cached_tokens <= start + len(parts.request_ids) - 1
            if schema:
                assert len(json.loads(whole.text.removesuffix("<|end|>"))["names"]) == 4

    asyncio.run(main())


def test_what_does_not_fit_a_schema_is_continued_without_it(make_engine: Make) -> None:
    pytest.importorskip("llguidance")

    async def main() -> None:
        async with make_engine() as engine:
            context = Context().extend(await engine.encode("Q: "), "Q: ")
            first = request_of(context, max_tokens=4)
            begun = await complete(engine, first)
            longer = context.extend(begun.ids, begun.text)
            rest = replace(request_of(longer, max_tokens=4), schema=SCHEMA, continues=first)
            assert len((await complete(engine, rest)).ids) == 4
            assert (await complete(engine, request_of(context, max_tokens=4))).ids == begun.ids

    asyncio.run(main())


@pytest.mark.parametrize(
    "sampling", [Sampling(temperature=0), Sampling(temperature=0.8, seed=3)], ids=["greedy", "seed"]
)
def test_a_run_of_the_shipped_model_is_the_same_under_a_scarce_budget(sampling: Sampling) -> None:
    async def main() -> tuple[Run[str, str], Run[str, str]]:
        limits = Limits(stages=3, plan_tokens=200, execution_tokens=200, answer_tokens=40)
        async with LocalEngine(nano_path(), threads=1) as engine:
            # What executions write until they are cut off depends on speed, so none is.
            sprint = Sprint(engine, limits=limits, sampling=sampling, settles=False)
            free = await sprint.run("countdown 3 7 25 46")
            scarce = await sprint.run("countdown 3 7 25 46", budget=Budget(tokens=free.usage.total_tokens))
        return free, scarce

    free, scarce = asyncio.run(main())
    assert scarce.transcript == free.transcript
    assert scarce.usage.total_tokens == free.usage.total_tokens
    assert scarce.usage.calls > free.usage.calls
