"""Texts that are asked for in the same step are asked for together, and each task gets its own answer."""

import asyncio
from collections.abc import Sequence

import pytest

from sprint_agents.engines.together import Together
from sprint_agents.errors import EngineOverloaded


def test_one_request_for_all_of_a_step() -> None:
    asked: list[list[str]] = []

    async def ask(texts: Sequence[str]) -> list[str]:
        asked.append([*texts])
        await asyncio.sleep(0)
        return [text.upper() for text in texts]

    async def main() -> None:
        together = Together(ask)
        assert await asyncio.gather(*map(together.get, ["a", "b", "a", "c", "b"])) == ["A", "B", "A", "C", "B"]
        assert await together.get("d") == "D"
        assert asked[-1] == ["d"]
        assert len(asked) == 2

    asyncio.run(main())


@pytest.mark.parametrize("cancelled", [0, 1])
def test_a_task_that_is_cancelled_takes_nothing_from_the_others(cancelled: int) -> None:
    begun = asyncio.Event()

    async def ask(texts: Sequence[str]) -> list[str]:
        begun.set()
        await asyncio.sleep(0)
        return [*texts]

    async def main() -> None:
        together = Together(ask)
        tasks = [asyncio.create_task(together.get(text)) for text in ("a", "b", "c")]
        await begun.wait()
        tasks[cancelled].cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(found.pop(cancelled), asyncio.CancelledError)
        assert found == [text for number, text in enumerate("abc") if number != cancelled]

    asyncio.run(main())


def test_each_task_gets_its_own_error() -> None:
    async def ask(texts: Sequence[str]) -> list[str]:
        raise EngineOverloaded("busy", retry_after=2.0)

    async def main() -> None:
        together = Together(ask)
        errors = await asyncio.gather(*map(together.get, "abc"), return_exceptions=True)
        assert [error.retry_after for error in errors if isinstance(error, EngineOverloaded)] == [2.0] * 3
        assert len(set(map(id, errors))) == 3

    asyncio.run(main())


def test_from_any_loop() -> None:
    async def ask(texts: Sequence[str]) -> list[str]:
        return [*texts]

    together = Together(ask)
    assert asyncio.run(together.get("a")) == asyncio.run(together.get("a")) == "a"


def test_other_failures_are_the_first_tasks_own() -> None:
    failed = False

    async def ask(texts: Sequence[str]) -> list[str]:
        nonlocal failed
        if not failed:
            failed = True
            raise ZeroDivisionError
        return [*texts]

    async def main() -> None:
        found = await asyncio.gather(*map(Together(ask).get, "ab"), return_exceptions=True)
        assert isinstance(found[0], ZeroDivisionError)
        assert found[1] == "b"

    asyncio.run(main())
