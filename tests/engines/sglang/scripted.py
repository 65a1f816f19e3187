"""A loopback HTTP server that plays a script of SGLang's answers and failures."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

VOCABULARY = 100
CONTEXT_LIMIT = 64


@dataclass
class Exchange:
    """One request and the connection for its answer; ``hold`` ends when the client closes it."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def head(self, status: int = 200, **headers: str) -> None:
        lines = [f"HTTP/1.1 {status} whatever", "transfer-encoding: chunked"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())

    async def send(self, data: bytes) -> None:
        if data:
            self.writer.write(b"%x\r\n%s\r\n" % (len(data), data))
            await self.writer.drain()

    async def end(self) -> None:
        self.writer.write(b"0\r\n\r\n")
        await self.writer.drain()

    async def answer(self, content: object, status: int = 200, **headers: str) -> None:
        self.head(status, **({"content_type": "application/json"} | headers))
        await self.send(content.encode() if isinstance(content, str) else json.dumps(content).encode())
        await self.end()

    def die(self) -> None:
        self.writer.transport.abort()

    async def hold(self) -> None:
        await self.reader.read()


Act = Callable[[Exchange], Awaitable[None]]


@dataclass
class ScriptedServer:
    """Plays one act per ``/generate``, in order; it repeats the last one."""

    acts: Sequence[Act] = ()
    exchanges: list[Exchange] = field(default_factory=list[Exchange])
    port: int = 0
    connections: int = 0
    open_connections: int = 0
    model_path: str = "/nowhere/tiny"
    models: object = None
    server_info: object = None
    sessions: bool = True
    """Whether sessions can be opened."""
    render: Callable[..., str] | None = None
    """The server's chat template, if it has one."""
    tokenizer: Any = None
    """The server's tokenizer; by default, one of bytes."""
    aborted: asyncio.Event = field(default_factory=asyncio.Event)
    arrivals: asyncio.Queue[str] = field(default_factory=asyncio.Queue[str])

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        self._tasks: set[asyncio.Task[None]] = set()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def bodies(self, path: str) -> list[Any]:
        """Return the bodies sent to ``path``, without requests for the vocabulary and the chat template."""
        found = [exchange.body for exchange in self.exchanges if exchange.path == path]
        found = [body for body in found if not (isinstance(body, dict) and "messages" in body)]
        return [body for body in found if path != "/generate" or "logit_bias" not in body["sampling_params"]]

    @property
    def aborts(self) -> list[str]:
        """Return the caller's ids of the aborted requests."""
        return [name_of(body["rid"]) for body in self.bodies("/abort_request")]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        self.connections += 1
        self.open_connections += 1
        try:
            while exchange := await _read(reader, writer):
                self.exchanges.append(exchange)
                await self._act(exchange)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client is gone, or the server closes
        finally:
            self.open_connections -= 1
            self._tasks.discard(task)
            writer.close()

    async def _act(self, exchange: Exchange) -> None:
        match exchange.path:
            case "/model_info":
                await exchange.answer(
                    {"model_path": self.model_path, "served_model_name": "tiny", "is_generation": True}
                )
            case "/v1/models":
                await exchange.answer(self.models or {"data": [{"id": "tiny", "max_model_len": CONTEXT_LIMIT}]})
            case "/server_info" if self.server_info is not None:
                await exchange.answer(self.server_info)
            case "/abort_request":
                exchange.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                self.aborted.set()
            case "/open_session" if not self.sessions:
                await exchange.answer({"error": {"message": "Failed to open the session."}}, 400)
            case "/open_session":
                await exchange.answer(json.dumps(exchange.body["session_id"]))
            case "/close_session":
                exchange.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            case "/tokenize" if "messages" in exchange.body and self.render is not None:
                try:
                    text = self.render(
                        exchange.body["messages"],
                        add_generation_prompt=exchange.body["add_generation_prompt"],
                        **exchange.body.get("chat_template_kwargs", {}),
                    )
                except ValueError as error:
                    await exchange.answer({"object": "error", "message": str(error), "code": 400}, 400)
                else:
                    await exchange.answer({"tokens": list(text.encode()), "count": len(text)})
            case "/tokenize" if "messages" in exchange.body:
                await exchange.answer({"object": "error", "message": "there is no chat template", "code": 400}, 400)
            case "/tokenize":
                prompt = exchange.body["prompt"]
                found = self._encode(prompt) if isinstance(prompt, str) else [*map(self._encode, prompt)]
                await exchange.answer({"tokens": found, "count": 0})
            case "/detokenize":
                ids, skip = exchange.body["tokens"], exchange.body["skip_special_tokens"]
                each = bool(ids) and isinstance(ids[0], list)
                text = [self._decode(own, skip) for own in ids] if each else self._decode(ids, skip)
                await exchange.answer({"text": text})
            case "/generate" if "logit_bias" in exchange.body["sampling_params"]:
                message = f"logit_bias must has keys in [0, {VOCABULARY - 1}], got 2147483647."
                await exchange.answer({"error": {"message": message}}, 400)
            case "/generate":
                self.arrivals.put_nowait(exchange.body["rid"])
                number = len(self.bodies("/generate")) - 1
                await self.acts[min(number, len(self.acts) - 1)](exchange)
            case _:
                await exchange.answer({"detail": "Not Found"}, 404)

    def _encode(self, text: str) -> list[int]:
        if self.tokenizer is None:
            return list(text.encode())
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def _decode(self, ids: list[int], skip_special: bool) -> str:
        if self.tokenizer is None:
            return bytes(ids).decode(errors="replace")
        return self.tokenizer.decode(ids, skip_special_tokens=skip_special)


def name_of(rid: str) -> str:
    """Return the caller's id of a request; the server's id is longer."""
    length, _, rest = rid.partition(":")
    return rest[: int(length)]


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Exchange | None:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = int(headers.get("content-length", 0))
    body = json.loads(await reader.readexactly(length)) if length else None
    return Exchange(method, path, headers, body, reader, writer)


def frame(text: str, ids: Sequence[int], *, prompt: int = 0, total: int | None = None, **reason: object) -> str:
    """One event as SGLang writes it; ``reason`` is its finish reason."""
    meta = {
        "id": "x",
        "finish_reason": reason or None,
        "prompt_tokens": prompt,
        "completion_tokens": len(ids) if total is None else total,
        "cached_tokens": max(prompt - 1, 0),
        "weight_version": "default",
    }
    return json.dumps({"text": text, "output_ids": list(ids), "meta_info": meta})


def events(frames: Iterable[str]) -> bytes:
    return "".join(f"data: {data}\n\n" for data in [*frames, "[DONE]"]).encode()


def frames(
    texts: Sequence[str], ids: Sequence[int], *, prompt: int, cumulative: bool = True, **reason: object
) -> list[str]:
    """Return the events of a completion with one token per text, cumulative or incremental."""
    found: list[str] = []
    for count in range(1, len(ids) + 1):
        start = 0 if cumulative else count - 1
        end: dict[str, object] = reason if count == len(ids) else {}
        found.append(frame("".join(texts[start:count]), ids[start:count], prompt=prompt, total=count, **end))
    return found


def completes(texts: Sequence[str] = ("a", "b", "c"), ids: Sequence[int] = (7, 8, 9)) -> Act:
    async def act(exchange: Exchange) -> None:
        prompt = len(exchange.body["input_ids"])
        await stream(events(frames(texts, ids, prompt=prompt, type="stop", matched=9)))(exchange)

    return act


def stream(data: bytes, *, cuts: Sequence[int] = (), kind: str = "text/event-stream; charset=utf-8") -> Act:
    """Send an event stream, cut into packets at arbitrary places."""

    async def act(exchange: Exchange) -> None:
        exchange.head(content_type=kind)
        for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True):
            await exchange.send(data[start:stop])
        await exchange.end()

    return act


def begins(*, then: Callable[[Exchange], Awaitable[None] | None]) -> Act:
    """Stream one token, then do something else."""

    async def act(exchange: Exchange) -> None:
        exchange.head(content_type="text/event-stream; charset=utf-8")
        await exchange.send(f"data: {frame('a', [7], prompt=3)}\n\n".encode())
        if result := then(exchange):
            await result

    return act


def answers(content: object, status: int = 200, **headers: str) -> Act:
    async def act(exchange: Exchange) -> None:
        await exchange.answer(content, status, **headers)

    return act


async def dies(exchange: Exchange) -> None:
    exchange.die()


async def hangs(exchange: Exchange) -> None:
    await exchange.hold()
