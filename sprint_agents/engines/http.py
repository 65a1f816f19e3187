"""The HTTP client of engines: one connection per request, event streams, and every failure as an ``EngineError``.

Invariants:

- Only ``EngineError`` leaves this module, except ``ConfigurationError`` for an invalid URL.
- Connections are kept between requests only from ``open`` to ``aclose``, and only on the event loop that called
  ``open``. Any other loop gets a connection per request, so no connection outlives its loop.
- Urgent calls (aborts) use separate connections: they never wait for the streams that they are meant to end.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import httpx2

from sprint_agents.errors import (
    ConfigurationError,
    EngineError,
    EngineOverloaded,
    EngineProtocolError,
    EngineRejected,
    EngineTimeout,
    EngineUnavailable,
)

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_LONGEST_EVENT = 64 * 1024 * 1024
_SHOWN = 300


class HttpClient:
    """The connections to one server.

    ``read_timeout`` is the longest silence, in seconds, while an answer is awaited or streamed. The caller's own
    ``client``, if there is one, is used with these timeouts and never closed here.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None,
        client: httpx2.AsyncClient | None,
        max_connections: int,
        connect_timeout: float,
        read_timeout: float,
    ) -> None:
        self.url = _checked(url)
        self._own_client = client
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._max_connections = max_connections
        self._timeout = httpx2.Timeout(read_timeout, connect=connect_timeout, pool=None)
        self._kept: tuple[asyncio.AbstractEventLoop, httpx2.AsyncClient] | None = None
        self._single: httpx2.AsyncClient | None = None
        self.closed = False

    @property
    def local(self) -> bool:
        """Whether the server runs on this machine."""
        return httpx2.URL(self.url).host in _LOOPBACK

    def open(self) -> None:
        """Keep connections between the requests of the running loop until ``aclose``."""
        if self._own_client is None and self._kept is None:
            self._kept = asyncio.get_running_loop(), self._client(keep=self._max_connections)

    async def aclose(self) -> None:
        """Close all connections. Readers of running streams get ``EngineUnavailable``."""
        self.closed = True
        kept, self._kept = self._kept, None
        single, self._single = self._single, None
        # If the loop has been closed, so have its connections.
        if kept and kept[0] is asyncio.get_running_loop():
            await kept[1].aclose()
        if single:
            await single.aclose()

    async def get(self, path: str) -> object:
        """Return the JSON that the server sends for ``path``."""
        return _json(await self._send("GET", path))

    async def probe(self, path: str) -> None:
        """Raise unless the server answers a request for ``path`` with status 200."""
        await self._send("GET", path)

    async def post(self, path: str, body: object, *, urgent: bool = False) -> object:
        """Send ``body`` as JSON; return the JSON of the answer, or None if the answer is empty."""
        response = await self._send("POST", path, body, urgent=urgent)
        return _json(response) if response.content else None

    @asynccontextmanager
    async def events(self, path: str, body: object) -> AsyncGenerator[httpx2.EventSource]:
        """Send ``body`` as JSON and stream the server-sent events of the answer; read them inside the block.

        Closing the ``response`` of the event source ends the stream. Its reader then gets ``EngineUnavailable``.
        """
        with self._translated():
            async with self._pick().stream(
                "POST", self.url + path, json=body, headers=self._headers, timeout=self._timeout
            ) as response:
                await _accept(response)
                kind = response.headers.get("content-type", "")
                if not kind.startswith("text/event-stream"):
                    text = _plain((await response.aread()).decode(errors="replace"))
                    raise EngineProtocolError(f"{self.url}{path} answered with {kind or 'no content type'}: {text}")
                yield httpx2.EventSource(response, max_event_size=_LONGEST_EVENT)

    async def _send(self, method: str, path: str, body: object = None, *, urgent: bool = False) -> httpx2.Response:
        with self._translated():
            response = await self._pick(urgent=urgent).request(
                method, self.url + path, json=body, headers=self._headers, timeout=self._timeout
            )
            await _accept(response)
            return response

    def _pick(self, *, urgent: bool = False) -> httpx2.AsyncClient:
        if self.closed:
            raise EngineUnavailable(f"the engine for {self.url} is closed")
        if self._own_client:
            return self._own_client
        if self._kept and not urgent and self._kept[0] is asyncio.get_running_loop():
            return self._kept[1]
        if self._single is None:
            self._single = self._client(keep=0)
        return self._single

    def _client(self, *, keep: int) -> httpx2.AsyncClient:
        limits = httpx2.Limits(max_connections=self._max_connections, max_keepalive_connections=keep)
        # A proxy from the environment never leads to this machine, and loading the certificates takes 30 ms, which
        # an unencrypted connection does not need.
        encrypted = not self.local or self.url.startswith("https:")
        return httpx2.AsyncClient(limits=limits, timeout=self._timeout, trust_env=not self.local, verify=encrypted)

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            reason = str(error) or "timed out"
            raise EngineUnavailable(f"no connection to {self.url}: {reason}. Is the server up?") from error
        except httpx2.TimeoutException as error:
            raise EngineTimeout(f"{self.url} was silent for {self._timeout.read:g} s") from error
        except (httpx2.DecodingError, httpx2.SSEError, httpx2.TooManyRedirects) as error:
            raise EngineProtocolError(f"{self.url} sent an invalid response: {error}") from error
        except httpx2.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise EngineUnavailable(f"the connection to {self.url} broke: {reason}") from error


def failure(status: int, message: str, *, retry_after: float | None = None) -> EngineError:
    """Return the error for an HTTP status; ``message`` is the server's."""
    match status:
        case HTTPStatus.TOO_MANY_REQUESTS | HTTPStatus.SERVICE_UNAVAILABLE:
            return EngineOverloaded(f"the server is overloaded ({status}): {message}", retry_after=retry_after)
        case HTTPStatus.REQUEST_TIMEOUT | HTTPStatus.GATEWAY_TIMEOUT:
            return EngineTimeout(f"the server gave up waiting ({status}): {message}")
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            return EngineRejected(f"the server refuses access ({status}): {message}. Is api_key right?")
        case _ if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return EngineUnavailable(f"the server failed ({status}): {message}")
        case _ if status >= HTTPStatus.BAD_REQUEST:
            return EngineRejected(message)
        case _:
            return EngineProtocolError(f"unexpected status {status}: {message}")


async def _accept(response: httpx2.Response) -> None:
    """Raise the error for a status other than 200, with the server's message."""
    if response.status_code == HTTPStatus.OK:
        return
    text = (await response.aread()).decode(errors="replace")
    headers = response.headers
    retry_after = _milliseconds(headers.get("retry-after-ms"))
    if retry_after is None:
        retry_after = _seconds(headers.get("retry-after"))
    raise failure(response.status_code, message_of(text), retry_after=retry_after)


def message_of(text: str) -> str:
    """Return the message in the body of an error, which may have OpenAI's form, FastAPI's, or be plain text."""
    try:
        value: Any = json.loads(text)
    except ValueError:
        return _plain(text)
    for key in ("error", "message", "detail"):
        if isinstance(value, dict) and key in value:
            value = value[key]  # pyright: ignore[reportUnknownVariableType]
    return value if isinstance(value, str) else _plain(json.dumps(value))


def _json(response: httpx2.Response) -> object:
    try:
        return response.json()
    except ValueError as error:
        raise EngineProtocolError(f"{response.url} answered without JSON: {_plain(response.text)}") from error


def _plain(text: str) -> str:
    words = " ".join(text.split())
    return (words[:_SHOWN] + " …" if len(words) > _SHOWN else words) or "(an empty answer)"


def _milliseconds(retry_after: str | None) -> float | None:
    """Read OpenAI's ``retry-after-ms`` header, the more precise one; return seconds."""
    try:
        return max(0.0, float(retry_after) / 1000) if retry_after else None
    except ValueError:
        return None


def _seconds(retry_after: str | None) -> float | None:
    """Read a ``Retry-After`` header, seconds or a date (RFC 9110, section 10.2.3); return seconds."""
    if retry_after is None:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        until = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _checked(url: str) -> str:
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise ConfigurationError(f"{url!r} is not a URL: {error}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ConfigurationError(f"{url!r} is not the URL of a server: write it like http://127.0.0.1:30000")
    return url.rstrip("/")
