"""The engines that the command line can open, and the recorded runs that ``--engine fake`` replays."""

import hashlib
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Literal

import typer
from pydantic import BaseModel, ConfigDict

from sprint_agents.engine import Engine
from sprint_agents.errors import ConfigurationError, UnsupportedTask
from sprint_agents.manifest import Manifest
from sprint_agents.nano import nano_path
from sprint_agents.testing import FakeEngine, Latency, Prompt

STATE = Path(typer.get_app_dir("sprint-agents")) / "engine"
"""Where the server that ``sprint engine up`` started is recorded, together with its log."""

RECORDED_RUNS = Path(__file__).with_name("recorded_runs.jsonl")
"""Runs of sprint-nano, recorded by ``python tests/cli/record.py``."""

EngineName = Literal["local", "sglang", "openai", "pydantic-ai", "fake"]


class RecordedRun(BaseModel):
    """A line of ``RECORDED_RUNS``: what the model wrote in one run, by the ``context_key`` of what it had read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    policy: str
    completions: dict[str, str]


def context_key(text: str) -> str:
    """Return a short name for a context."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def recorded_engine(*, paced: bool = False) -> FakeEngine:
    """Make an engine that replays ``RECORDED_RUNS``, for a first look without torch; ``paced`` takes 2 ms a token.

    A context that was not recorded raises UnsupportedTask.
    """
    lines = RECORDED_RUNS.read_text(encoding="utf-8").splitlines()
    runs = [RecordedRun.model_validate_json(line) for line in lines]
    completions = {key: text for run in runs for key, text in run.completions.items()}

    def replay(prompt: Prompt) -> str:
        text = completions.get(context_key(prompt.text))
        if text is None:
            tasks = "; ".join(dict.fromkeys(run.task for run in runs))
            raise UnsupportedTask(
                f"--engine fake replays recorded runs, and none has this request: use --engine local, or ask: {tasks}"
            )
        return text

    manifest = Manifest.load(nano_path())
    return FakeEngine(replay, latency=Latency(token=0.002) if paced else None, manifest=manifest)


@asynccontextmanager
async def open_engine(
    name: EngineName, *, model: str | None, url: str | None = None, api_key: str | None = None, paced: bool = False
) -> AsyncGenerator[Engine]:
    """Open an engine, and close it after the block.

    ``model`` is a checkpoint directory, by default the shipped one, or for ``local`` also a GGUF file or a name on the
    Hugging Face Hub; for ``openai``, the server's name of the model; for ``pydantic-ai``, its name there, such as
    ``openai:gpt-5``.
    ``url`` is the server's address, by default that of the SGLang server that ``sprint engine up`` started. An SGLang
    server tokenizes, unless ``model`` is its checkpoint. A ``paced`` fake writes slowly enough to watch.

    Raises:
        ConfigurationError: there is no such checkpoint or server, an extra is missing, or an option does not apply to
            this engine.
    """
    if url is not None and name not in ("sglang", "openai"):
        raise ConfigurationError(
            f"the {name} engine is not a server, so it cannot use a --url: give --engine sglang or --engine openai"
        )
    match name:
        case "sglang":
            from sprint_agents.engines.sglang import SGLangEngine

            async with SGLangEngine(url or _started(), tokenizer=model) as server:
                yield server
        case "openai":
            from sprint_agents.engines.openai import OpenAIEngine

            if url is None or model is None:
                raise ConfigurationError(
                    "--engine openai needs a server and a model: give --url, such as http://127.0.0.1:11434/v1, "
                    "and --model"
                )
            async with OpenAIEngine(url, model=model, api_key=api_key) as served:
                yield served
        case "pydantic-ai":
            async with _hosted(model) as hosted:
                yield hosted
        case "fake":
            if model is not None:
                raise ConfigurationError(f"the fake engine has no model, so it cannot use {model}: give --engine local")
            async with recorded_engine(paced=paced) as fake:
                yield fake
        case "local":
            from sprint_agents.engines.local import LocalEngine  # loads torch, which no other engine needs

            async with LocalEngine(model or nano_path()) as engine:
                yield engine


def _hosted(model: str | None) -> AbstractAsyncContextManager[Engine]:
    """Make the engine of a hosted model, whose key is in the provider's usual environment variable."""
    if model is None:
        raise ConfigurationError("--engine pydantic-ai needs a model: give --model, such as openai:gpt-5")
    from sprint_integrations.pydantic_ai import PydanticAIEngine  # an optional dependency

    return PydanticAIEngine(model)


def _started() -> str:
    """Find the server that ``sprint engine up`` started."""
    from sprint_agents.engines.sglang.server import find_detached

    if server := find_detached(STATE):
        return server.url
    raise ConfigurationError("no server is running: start one with `sprint engine up`, or name yours with --url")


def describe(engine: Engine) -> str:
    """Name an engine for someone who watches, and say if there is no model."""
    return "recorded runs (--engine fake)" if isinstance(engine, FakeEngine) else engine.name
