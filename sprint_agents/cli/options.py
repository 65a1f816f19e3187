"""The options of all commands that call a model."""

import dataclasses
import inspect
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import wraps
from typing import Annotated, Any, ClassVar, get_type_hints

import typer
from pydantic import ConfigDict
from rich.console import Console

from sprint_agents import Budget, Engine, Limits, Sampling, Sprint
from sprint_agents.dialects import DialectName
from sprint_agents.plan import FailureMode
from sprint_agents.policies import BUILT_IN, Policy, find_policy

from .engines import EngineName, open_engine


def _limit(meaning: str, *, least: float = 1) -> Any:
    return typer.Option(min=least, help=meaning, rich_help_panel="Limits (default: those of the model)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """Which model to call, and what a run may use: ``with_options`` makes each field an option of a command."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    engine: Annotated[
        EngineName,
        typer.Option(
            help="local: the embedded engine; sglang: a server; openai: a server with OpenAI's API; "
            "pydantic-ai: a hosted model; fake: recorded runs, without a model."
        ),
    ] = "local"
    url: Annotated[
        str | None,
        typer.Option(
            help="The address of an openai server, or of an SGLang server (default: that of `sprint engine up`)."
        ),
    ] = None
    model: Annotated[
        str | None,
        typer.Option(
            help="A checkpoint directory (default: sprint-nano, part of the package); for local also a GGUF file or a "
            "name on the Hugging Face Hub; for openai, the server's name of the model; for pydantic-ai, a name such as "
            "anthropic:claude-sonnet-5-5.",
            metavar="DIR|NAME",
        ),
    ] = None
    api_key_env: Annotated[str, typer.Option(help="The environment variable that holds an openai server's key.")] = (
        "OPENAI_API_KEY"
    )
    dialect: Annotated[
        DialectName | None,
        typer.Option(
            help="tags: the paper's format, for models trained on it; json: for any instruct model "
            "(default: the checkpoint's, else json if the engine has a chat template)."
        ),
    ] = None
    temperature: Annotated[float | None, typer.Option(min=0, help="0 is greedy (default: the model's).")] = None
    max_stages: Annotated[int | None, _limit("Stages of a run; in the last one the planner must answer.")] = None
    plan_tokens: Annotated[int | None, _limit("Generated tokens of one plan.")] = None
    execution_tokens: Annotated[int | None, _limit("Generated tokens of one execution.")] = None
    chain_tokens: Annotated[int | None, _limit("Generated tokens of one sequential chain.")] = None
    answer_tokens: Annotated[int | None, _limit("Generated tokens of an answer that a policy asks for.")] = None
    max_tokens: Annotated[int | None, _limit("Generated tokens of a whole run.")] = None
    timeout: Annotated[float | None, _limit("Seconds of a whole run.", least=0.001)] = None

    @asynccontextmanager
    async def open(self, *, console: Console | None = None) -> AsyncGenerator[Engine]:
        """Open the engine; on a terminal it says so, and a fake engine is slowed down.

        Raises:
            ConfigurationError: there is no such checkpoint or server, or an extra is missing.
        """
        watched = console if console and console.is_terminal else None
        async with AsyncExitStack() as opened:
            with watched.status("opening the engine") if watched else nullcontext():
                engine = await opened.enter_async_context(
                    open_engine(
                        self.engine,
                        model=self.model,
                        url=self.url,
                        api_key=os.environ.get(self.api_key_env),
                        paced=watched is not None,
                    )
                )
            yield engine

    def sprint_on(
        self,
        engine: Engine,
        *,
        policy: Policy | str,
        failure: FailureMode = "collect",
        seed: int | None = None,
        concurrency: int | None = None,
    ) -> Sprint:
        """Make a ``Sprint`` on an open engine.

        Raises:
            UnknownPolicy: there is no such policy.
        """
        limits = {
            "stages": self.max_stages,
            "plan_tokens": self.plan_tokens,
            "execution_tokens": self.execution_tokens,
            "chain_tokens": self.chain_tokens,
            "answer_tokens": self.answer_tokens,
            "concurrency": concurrency,
        }
        sampling = {"temperature": self.temperature, "seed": seed}
        return Sprint(
            engine,
            policy=policy,
            limits=Limits.of(engine.manifest).model_copy(update=_set(limits)),
            budget=Budget(tokens=self.max_tokens, seconds=self.timeout),
            failure=failure,
            sampling=Sampling.of(engine.manifest).model_copy(update=_set(sampling)),
            dialect=self.dialect,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SolveOptions(ModelOptions):
    """How to solve a task. In a file for ``sprint serve`` the fields are the keys of a table."""

    policy: Annotated[str, typer.Option(help=f"Who decides the next stage: {', '.join(BUILT_IN)}.")] = "interleaved"
    failure: Annotated[FailureMode, typer.Option(help="What a failed execution does to the run.")] = "collect"
    seed: Annotated[int | None, typer.Option(help="Sample the same tokens in every call.")] = None

    @asynccontextmanager
    async def sprint(
        self,
        *,
        concurrency: int | None = None,
        console: Console | None = None,
        recorder: Callable[[Engine], Engine] | None = None,
    ) -> AsyncGenerator[Sprint]:
        """Open the engine and make a ``Sprint`` that runs on it. A ``recorder`` is put around the engine.

        Raises:
            ConfigurationError: there is no such policy or checkpoint, or an extra is missing.
        """
        find_policy(self.policy)  # before a model is loaded
        async with self.open(console=console) as engine:
            yield self.sprint_on(
                recorder(engine) if recorder else engine,
                policy=self.policy,
                failure=self.failure,
                seed=self.seed,
                concurrency=concurrency,
            )


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give ``command`` an option for each field of the class that annotates its argument ``options``."""
    kind = get_type_hints(command)["options"]
    hints = get_type_hints(kind, include_extras=True)
    added = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in dataclasses.fields(kind)
    ]

    @wraps(command)
    def wrapper(**values: Any) -> None:
        options = kind(**{parameter.name: values.pop(parameter.name) for parameter in added})
        command(options=options, **values)

    signature = inspect.signature(command)
    own = [parameter for name, parameter in signature.parameters.items() if name != "options"]
    wrapper.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
    return wrapper


def _set(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in values.items() if value is not None}
