"""Fixtures that call the command in this process and keep stdout and stderr apart."""

import signal
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import pytest
import structlog
from typer.testing import CliRunner, Result

from sprint_agents.cli import engines
from sprint_agents.cli.app import app
from sprint_agents.testing import FakeEngine

Call = Callable[..., Result]


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.fixture
def call() -> Call:
    """Call `sprint` with these arguments; unexpected exceptions are raised."""

    def invoke(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)

    return invoke


@pytest.fixture
def use_engine(monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeEngine], FakeEngine]:
    """Let `--engine fake` open this engine without closing it, so that only the run can abort requests."""

    def use(engine: FakeEngine) -> FakeEngine:
        def opened(*, paced: bool) -> nullcontext[FakeEngine]:
            return nullcontext(engine)

        monkeypatch.setattr(engines, "recorded_engine", opened)
        return engine

    return use


@pytest.fixture(autouse=True)
def interruptible():
    """Handle SIGINT, which tests started in the background may ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
