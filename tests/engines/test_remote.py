"""The base of engines over HTTP: request ids, retries, aborts and closing. No request is sent here."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import pytest

from sprint_agents.context import Context
from sprint_agents.engine import Request, Sampling
from sprint_agents.engines.http import HttpClient
from sprint_agents.engines.remote import RemoteEngine, RunningRequest, check_request
from sprint_agents.errors import EngineOverloaded, EngineRejected, EngineUnavailable, InvalidRequest


class Recording(RemoteEngine[RunningRequest]):
    """Records how its requests were ended."""

    def __init__(self) -> None:
        http = HttpClient(
            "http://127.0.0.1:1", api_key=None, client=None, max_connections=1, connect_timeout=1, read_timeout=1
        )
        super().__init__(http, attempts=3, longest_wait=5.0)
        self.ended: list[RunningRequest] = []
        self.ended_at_close: list[RunningRequest] = []

    async def _end(self, running: RunningRequest) -> None:
        self.ended.append(running)

    async def _end_at_close(self, running: RunningRequest) -> None:
        self.ended_at_close.append(running)


def request(name: str, *, max_tokens: int = 1) -> Request:
    return Request(id=name, context=Context().extend([1], "x"), max_tokens=max_tokens, sampling=Sampling())


def fails(engine: Recording, *errors: Exception, running: RunningRequest | None = None) -> int:
    """Retry work that fails with ``errors``, one after the other, then succeeds; return the number of attempts."""
    made = 0

    async def work() -> None:
        nonlocal made
        made += 1
        if made <= len(errors):
            raise errors[made - 1]

    with suppress(*{type(error) for error in errors}):
        asyncio.run(engine._retry(work, running=running))
    return made


def test_an_id_in_use_is_refused_until_its_request_has_ended() -> None:
    engine = Recording()
    with engine._registered(request("a"), RunningRequest()):
        with (
            pytest.raises(InvalidRequest, match="request id 'a' is in use"),
            engine._registered(request("a"), RunningRequest()),
        ):
            pass
        with engine._registered(request("b"), RunningRequest()):
            pass
    with engine._registered(request("a"), RunningRequest()):
        pass


def test_abort_ends_a_running_request_and_ignores_others() -> None:
    engine, running = Recording(), RunningRequest()
    with engine._registered(request("a"), running):
        asyncio.run(engine.abort("b"))
        assert not running.aborted
        asyncio.run(engine.abort("a"))
    assert running.aborted
    asyncio.run(engine.abort("a"))
    assert engine.ended == [running]


def test_closing_ends_every_running_request_once() -> None:
    engine = Recording()
    first, second = RunningRequest(), RunningRequest()
    with engine._registered(request("a"), first), engine._registered(request("b"), second):
        asyncio.run(engine.aclose())
        asyncio.run(engine.aclose())
    assert engine.ended_at_close == [first, second]
    assert engine.ended == []


class TestRetries:
    @pytest.fixture(autouse=True)
    def _without_delay(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def at_once(seconds: float) -> None:
            pass

        monkeypatch.setattr("asyncio.sleep", at_once)

    @pytest.mark.parametrize(
        ("error", "attempts"),
        [
            (lambda: EngineUnavailable("down"), 2),
            (lambda: EngineOverloaded("busy", retry_after=5.0), 2),
            (lambda: EngineOverloaded("busy", retry_after=5.1), 1),
            (lambda: EngineRejected("no"), 1),
        ],
    )
    def test_only_what_may_pass_is_tried_again(self, error: Callable[[], Exception], attempts: int) -> None:
        assert fails(Recording(), error()) == attempts

    def test_at_most_as_often_as_the_engine_allows(self) -> None:
        assert fails(Recording(), *(EngineUnavailable(str(number)) for number in range(9))) == 3

    def test_not_after_an_abort_or_after_closing(self) -> None:
        assert fails(Recording(), EngineUnavailable("down"), running=RunningRequest(aborted=True)) == 1
        engine = Recording()
        asyncio.run(engine.aclose())
        assert fails(engine, EngineUnavailable("down")) == 1


@pytest.mark.parametrize(
    ("ids", "limit", "message"), [([], 1, "the context is empty"), ([1], -1, "max_tokens is -1: it cannot be negative")]
)
def test_no_server_is_asked_for(ids: list[int], limit: int, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        check_request(request("a", max_tokens=limit), ids)
