"""The base of engines over HTTP: request ids, retries, aborts and closing. No request is sent here."""

import asyncio
from contextlib import suppress

import pytest

from sprint_agents.context import Context
from sprint_agents.engine import Request, Sampling
from sprint_agents.engines.http import HttpClient
from sprint_agents.engines.remote import RemoteEngine, RunningRequest, check_request
from sprint_agents.errors import EngineOverloaded, EngineRejected, EngineTimeout, EngineUnavailable, InvalidRequest
from sprint_agents.testing import VirtualTimeLoop


class Recording(RemoteEngine[RunningRequest]):
    """Records how its requests were ended."""

    def __init__(self, *, patience: float = 30.0) -> None:
        http = HttpClient(
            "http://127.0.0.1:1", api_key=None, client=None, max_connections=1, connect_timeout=1, read_timeout=1
        )
        super().__init__(http, patience=patience)
        self.ended: list[RunningRequest] = []
        self.ended_at_close: list[RunningRequest] = []

    async def _end(self, running: RunningRequest) -> None:
        self.ended.append(running)

    async def _end_at_close(self, running: RunningRequest) -> None:
        self.ended_at_close.append(running)


def request(name: str, *, max_tokens: int = 1) -> Request:
    return Request(id=name, context=Context().extend([1], "x"), max_tokens=max_tokens, sampling=Sampling())


def answering(*, patience: float = 30.0) -> Recording:
    """An engine whose server has answered before."""
    engine = Recording(patience=patience)

    async def work() -> None:
        pass

    asyncio.run(engine._retry(work))
    return engine


def fails(engine: Recording, error: Exception, *, until: float, running: RunningRequest | None = None) -> list[float]:
    """Retry work that fails with ``error`` until the time ``until``, in seconds; return when it was attempted."""
    made: list[float] = []

    async def work() -> None:
        made.append(asyncio.get_running_loop().time())
        if made[-1] < until:
            raise error

    with suppress(type(error)), asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(engine._retry(work, running=running))
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
    @pytest.mark.parametrize(
        ("error", "again"),
        [
            (EngineUnavailable("down"), True),
            (EngineOverloaded("busy", retry_after=30.0), True),
            (EngineOverloaded("busy", retry_after=30.1), False),
            (EngineTimeout("silent"), False),
            (EngineRejected("no"), False),
        ],
    )
    def test_only_what_may_pass_is_tried_again(self, error: Exception, again: bool) -> None:
        assert (len(fails(answering(), error, until=0.1)) == 2) is again

    @pytest.mark.parametrize("outage", [0.4, 5.0, 29.0])
    def test_an_outage_shorter_than_the_patience_is_survived(self, outage: float) -> None:
        running = RunningRequest()
        made = fails(answering(), EngineUnavailable("down"), until=outage, running=running)
        assert made[-1] >= outage
        assert running.retries == len(made) - 1

    def test_the_last_attempt_is_made_when_patience_ends(self) -> None:
        made = fails(answering(), EngineUnavailable("down"), until=1000)
        assert made[-1] == pytest.approx(30.0)
        assert len(made) > 6

    def test_a_pause_that_the_server_asks_for_counts(self) -> None:
        made = fails(answering(), EngineOverloaded("busy", retry_after=12.0), until=1000)
        assert len(made) == 3
        assert made[1] >= 12.0

    def test_a_server_that_never_answered_is_given_up_after_a_second(self) -> None:
        assert 0.5 < fails(Recording(), EngineUnavailable("down"), until=1000)[-1] < 3.0
        assert fails(Recording(), EngineOverloaded("it starts"), until=1000)[-1] == pytest.approx(30.0)

    def test_no_patience_is_no_retry(self) -> None:
        assert fails(answering(patience=0), EngineUnavailable("down"), until=1000) == [0.0]

    def test_not_after_an_abort_or_after_closing(self) -> None:
        down = EngineUnavailable("down")
        assert fails(answering(), down, until=1, running=RunningRequest(aborted=True)) == [0.0]
        engine = answering()
        asyncio.run(engine.aclose())
        assert fails(engine, down, until=1) == [0.0]


@pytest.mark.parametrize(
    ("ids", "limit", "message"), [([], 1, "the context is empty"), ([1], -1, "max_tokens is -1: it cannot be negative")]
)
def test_no_server_is_asked_for(ids: list[int], limit: int, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        check_request(request("a", max_tokens=limit), ids)
