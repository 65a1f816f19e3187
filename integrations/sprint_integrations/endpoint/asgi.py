"""The ASGI application: its routes, who may use them, and what happens when a client leaves or a run fails.

Invariants:

- A client that closes its connection ends its run, streamed or not: nothing is left at the engine.
- A request that is refused has started no run.
- An error in the middle of a stream is an event of the stream, since the status has been sent.
"""

import asyncio
import hmac
import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Mapping
from contextlib import ExitStack, aclosing, contextmanager, suppress
from functools import partial
from time import time
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from sprint_agents.errors import (
    ConfigurationError,
    ContextOverflow,
    EngineOverloaded,
    EngineTimeout,
    EngineUnavailable,
    SprintError,
    describe,
)
from sprint_agents.policies.policy import call_alone
from sprint_agents.sprint import Sprint
from sprint_agents.tools import explain

from . import chat, responses
from .answering import Answered, Reasoning, answer, sprint_for
from .counters import Counters
from .questions import BadRequest, ChatRequest, Question, ResponsesRequest

T = TypeVar("T")

_BEARER = re.compile("^bearer ", re.IGNORECASE)

Items = AsyncIterator[Reasoning | Answered]
_Whole = Callable[[str, Question, Items], Awaitable[Mapping[str, Any]]]
_Pieces = Callable[[str, Question, Items], AsyncGenerator[Mapping[str, Any]]]


class Bounds(BaseModel):
    """The limits of an endpoint.

    Attributes:
        concurrency: runs at the same time; one request more is answered with status 429.
        body: the most bytes of a request.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    concurrency: int = Field(default=64, ge=1)
    body: int = Field(default=1_000_000, ge=1)


def application(
    models: Mapping[str, Sprint[Any, Any]],
    *,
    api_key: str | None = None,
    bounds: Bounds | None = None,
    deps: Callable[[Request], object] | None = None,
) -> Starlette:
    """Return an ASGI application that serves each ``Sprint`` as the model of its name.

    Args:
        models: the ``Sprint``s by name. You close their engines.
        api_key: what clients send as ``Authorization: Bearer …``; None if anyone may ask.
        bounds: the limits of the endpoint.
        deps: returns the ``deps`` of a request's run, which your functions read as ``RunContext.deps``; async or not.

    Raises:
        ConfigurationError: there is no model.
    """
    if not models:
        raise ConfigurationError('there is no model to serve: pass some, as in {"legs": sprint}')
    endpoint = _Endpoint(models, api_key, bounds or Bounds(), deps)
    complete = partial(endpoint.ask, ChatRequest, chat.completion, chat.chunks)
    respond = partial(endpoint.ask, ResponsesRequest, responses.response, responses.events)
    routes = [
        Route("/v1/chat/completions", complete, methods=["POST"]),
        Route("/v1/responses", respond, methods=["POST"]),
        Route("/v1/models", endpoint.list_models),
        Route("/v1/models/{name:path}", endpoint.show_model),
        Route("/health", endpoint.health),
        Route("/metrics", endpoint.show_metrics),
    ]
    return Starlette(routes=routes)


class _Endpoint:
    """The handlers of the routes, over one set of models."""

    def __init__(
        self,
        models: Mapping[str, Sprint[Any, Any]],
        api_key: str | None,
        bounds: Bounds,
        deps: Callable[[Request], object] | None,
    ) -> None:
        self._models = dict(models)
        self._api_key = api_key
        self._bounds = bounds
        self._deps = deps
        self._metrics = Counters()
        self._running = 0
        self._started = int(time())

    async def health(self, request: Request) -> Response:
        """Say that the process answers; nothing is asked of the engines."""
        return JSONResponse({"status": "ok", "running": self._running})

    async def show_metrics(self, request: Request) -> Response:
        """Return the metrics."""
        try:
            self._authorize(request)
        except BadRequest as error:
            return _refusal(error)
        return Response(self._metrics.written(), media_type="text/plain; version=0.0.4")

    async def list_models(self, request: Request) -> Response:
        """Return the names of the models."""
        try:
            self._authorize(request)
        except BadRequest as error:
            return _refusal(error)
        return JSONResponse({"object": "list", "data": [self._model(name) for name in self._models]})

    async def show_model(self, request: Request) -> Response:
        """Return one model."""
        name = request.path_params["name"]
        try:
            self._authorize(request)
            sprint_for(Question(model=name, task=""), self._models)
        except BadRequest as error:
            return _refusal(error)
        return JSONResponse(self._model(name))

    def _model(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self._started, "owned_by": "sprint-agents"}

    async def ask(
        self, kind: type[ChatRequest | ResponsesRequest], whole: _Whole, pieces: _Pieces, request: Request
    ) -> Response:
        """Answer a question of either API."""
        try:
            self._authorize(request)
            question = _read(kind, await self._body(request))
            sprint = sprint_for(question, self._models)
            with ExitStack() as slot:
                slot.enter_context(self._slot())
                deps = await call_alone(self._deps, request) if self._deps else None
                items, name = self._run(question.model, sprint, question.task, deps), secrets.token_hex(12)
                if question.stream:
                    # What is wrong with the task is found before the first item, so it still has its own status.
                    first = await while_connected(request.receive, anext(items))
                    return _Stream(pieces(name, question, _after(first, items)), slot.pop_all())
                async with aclosing(items):
                    return JSONResponse(await while_connected(request.receive, whole(name, question, items)))
        except ClientDisconnect:
            return Response(status_code=499)
        except SprintError as error:
            return _refusal(error)

    async def _run(
        self, model: str, sprint: Sprint[Any, Any], task: str, deps: object
    ) -> AsyncGenerator[Reasoning | Answered]:
        """Answer a question, and count it."""
        with self._outcome(model) as end, self._metrics.seconds.labels(model).time():
            async with aclosing(answer(sprint, task, deps=deps)) as items:
                async for item in items:
                    if isinstance(item, Answered):
                        self._metrics.count(model, item.tokens)
                        end("answered" if item.complete else "budget")
                    yield item

    @contextmanager
    def _slot(self) -> Generator[None]:
        if self._running >= self._bounds.concurrency:
            raise BadRequest(
                f"{self._running} runs are active, and no more may be: ask again later", status=429, code="busy"
            )
        self._running += 1
        self._metrics.running.set(self._running)
        try:
            yield
        finally:
            self._running -= 1
            self._metrics.running.set(self._running)

    @contextmanager
    def _outcome(self, model: str) -> Generator[Callable[[str], None]]:
        """Count a run by its outcome: the one that the block says, a failure, or that the client has left."""
        outcome = ["left"]
        try:
            yield outcome.append
        except Exception:
            outcome.append("failed")
            raise
        finally:
            self._metrics.runs.labels(model, outcome[-1]).inc()

    def _authorize(self, request: Request) -> None:
        if self._api_key is None:
            return
        given = _BEARER.sub("", request.headers.get("authorization", "")).strip()
        if not hmac.compare_digest(given.encode(), self._api_key.encode()):
            raise BadRequest(
                "the API key is missing or wrong: send Authorization: Bearer …", status=401, code="invalid_api_key"
            )

    async def _body(self, request: Request) -> bytes:
        most, body = self._bounds.body, bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > most:
                raise BadRequest(f"the request has more than {most:,} bytes", status=413, code="too_large")
        return bytes(body)


def _read(kind: type[ChatRequest | ResponsesRequest], body: bytes) -> Question:
    try:
        return kind.model_validate_json(body).question()
    except ValidationError as error:
        place = error.errors(include_url=False, include_input=False)[0]["loc"]
        raise BadRequest(explain(error), parameter=str(place[0]) if place else None) from error


async def _after(
    first: Reasoning | Answered, items: AsyncGenerator[Reasoning | Answered]
) -> AsyncGenerator[Reasoning | Answered]:
    async with aclosing(items):
        yield first
        async for item in items:
            yield item


async def while_connected(receive: Receive, work: Awaitable[T]) -> T:
    """Await ``work``, and cancel it if the client closes its connection.

    Raises:
        ClientDisconnect: it did.
    """

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    tasks = working, watching = asyncio.ensure_future(work), asyncio.ensure_future(watch())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Stream(Response):
    """A stream of events, until it ends or the client leaves."""

    media_type = "text/event-stream"

    def __init__(self, pieces: AsyncGenerator[Mapping[str, Any]], slot: ExitStack) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._pieces = pieces
        self._slot = slot

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""

        async def write() -> None:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async with aclosing(self._pieces) as pieces:
                try:
                    async for piece in pieces:
                        await send(_body(_event(piece)))
                except SprintError as error:
                    await send(_body(_event({"type": "error", **_error(error)[1]})))
            await send(_body(b"data: [DONE]\n\n"))
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        with self._slot, suppress(ClientDisconnect):
            await while_connected(receive, write())


def _body(piece: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": piece, "more_body": True}


def _event(piece: Mapping[str, Any]) -> bytes:
    data = b"data: " + to_json(piece) + b"\n\n"
    kind = piece.get("type")
    return f"event: {kind}\n".encode() + data if kind else data


def _refusal(error: SprintError) -> Response:
    status, body = _error(error)
    return JSONResponse(body, status, headers={"retry-after": "1"} if status in (429, 503) else None)


def _error(error: SprintError) -> tuple[int, dict[str, Any]]:
    """Return the status and the body of an error, as OpenAI's API has them."""
    kind, code, parameter = "server_error", type(error).__name__, None
    match error:
        case BadRequest():
            status, code, parameter = error.status, error.code, error.parameter
        case ConfigurationError() | ContextOverflow():
            status = 400
        case EngineOverloaded():
            status = 429
        case EngineUnavailable() | EngineTimeout():
            status = 503
        case _:
            status = 500
    if status < 500:
        kind = "invalid_request_error"
    return status, {"error": {"message": str(error) or describe(error), "type": kind, "code": code, "param": parameter}}
