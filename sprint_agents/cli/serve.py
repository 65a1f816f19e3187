"""``sprint serve``: an endpoint with OpenAI's API, over HTTP, until it is interrupted."""

import tomllib
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError
from rich.console import Console

from sprint_agents import Sprint
from sprint_agents.errors import ConfigurationError, MissingExtra
from sprint_agents.tools import explain

from .loading import load_object
from .options import SolveOptions

Models = Mapping[str, Sprint[Any, Any]]


@asynccontextmanager
async def open_models(target: str | None, options: SolveOptions) -> AsyncGenerator[Models]:
    """Open the models to serve, and close their engines after the block.

    Args:
        target: a TOML file with a table ``models.NAME`` of options for each model; ``MODULE:NAME``, where a module of
            yours has a ``Sprint``, or a mapping of names to them; None for one model that ``options`` describe.
        options: the options of the command.

    Raises:
        ConfigurationError: there is no such file or module, or it does not say which models.
    """
    async with AsyncExitStack() as opened:
        if target is None:
            sprint = await opened.enter_async_context(options.sprint())
            yield {sprint.engine.name.rpartition(":")[2]: sprint}
        elif target.endswith(".toml"):
            tables = _read(Path(target))
            yield {name: await opened.enter_async_context(each.sprint()) for name, each in tables.items()}
        else:
            models = _load(target)
            for sprint in models.values():
                opened.push_async_callback(sprint.engine.aclose)
            yield models


def _read(path: Path) -> dict[str, SolveOptions]:
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        models = TypeAdapter(dict[str, SolveOptions]).validate_python(tables.get("models", {}))
    except (OSError, ValueError) as error:  # a TOMLDecodeError and a ValidationError are ValueErrors
        reason = explain(error) if isinstance(error, ValidationError) else error
        raise ConfigurationError(f"{path} cannot be read: {reason}") from error
    if not models:
        raise ConfigurationError(f"{path} has no models: write a table such as [models.nano] with an engine in it")
    return models


def _load(target: str) -> dict[str, Sprint[Any, Any]]:
    found = load_object(target, wanted="a .toml file, or MODULE:NAME as in app:sprint")
    name = target.rpartition(":")[2]
    models = cast("dict[str, object]", found) if isinstance(found, Mapping) else {name: found}
    for key, sprint in models.items():
        if not isinstance(sprint, Sprint):
            kind = type(sprint).__name__
            raise ConfigurationError(
                f"{target} is not a Sprint or a mapping of names to Sprints: {key} is of type {kind}"
            )
    return cast("dict[str, Sprint[Any, Any]]", dict(models))


async def serve(
    target: str | None,
    options: SolveOptions,
    *,
    console: Console,
    host: str,
    port: int,
    key: str | None,
    concurrency: int,
) -> None:
    """Serve models until the process is interrupted.

    Raises:
        ConfigurationError: see ``open_models``.
        MissingExtra: the extra ``serve`` is not installed.
    """
    from sprint_integrations.endpoint import Bounds, application

    async with open_models(target, options) as models:
        app = application(models, api_key=key, bounds=Bounds(concurrency=concurrency))
        await listen(
            app,
            host=host,
            port=port,
            announce=lambda address: console.print(
                f"serving {', '.join(models)} at {address}/v1", markup=False, highlight=False, soft_wrap=True
            ),
        )


async def listen(app: Any, *, host: str, port: int, announce: Callable[[str], object]) -> None:
    """Serve an ASGI application until the process is interrupted; ``announce`` gets its address first.

    Raises:
        MissingExtra: the extra ``serve`` is not installed.
    """
    try:
        import uvicorn
    except ModuleNotFoundError as error:
        raise MissingExtra("serve", "uvicorn") from error
    settings = uvicorn.Config(app, host=host, port=port, log_level="warning", access_log=False)
    # Bound here, so that the port is known before it is printed, and connections wait from then on.
    with settings.bind_socket() as listener:
        listener.listen(settings.backlog)
        announce(f"http://{host}:{listener.getsockname()[1]}")
        await uvicorn.Server(settings).serve(sockets=[listener])
