"""HTTP as engines need it: a connection for each request, streams of events, and every trouble as one of our errors.

Invariants:

- Only ``EngineError`` leaves this module (and ``ConfigurationError`` for a URL that is none).
- Connections are kept between requests only inside ``open`` … ``aclose`` and only on the event loop that called
  ``open``; any other loop gets a connection per request, so no connection outlives its loop.
- Urgent calls (aborts) have connections of their own: they never wait behind the streams that they are to end.
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


class Http:
    """The way to one server.

    ``read_timeout`` is the longest silence allowed while an answer is awaited or streamed, in seconds. A ``client`` of
    the caller's own is used as it is, timeouts aside, and never closed here.
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
        self._given = client
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
        """Keep connections between requests of the running loop, until ``aclose``."""
        if self._given is None and self._kept is None:
            self._kept = asyncio.get_running_loop(), self._client(keep=self._max_connections)

    async def aclose(self) -> None:
        """Close the connections, those of running streams too; their readers get ``EngineUnavailable``."""
        self.closed = True
        kept, self._kept = self._kept, None
        single, self._single = self._single, None
        # A client whose loop is gone has no connections that could still be closed.
        if kept and kept[0] is asyncio.get_running_loop():
            await kept[1].aclose()
        if single:
            await single.aclose()

    async def get(self, path: str) -> object:
        """Return the JSON that the server has at ``path``."""
        return _json(await self._send("GET", path))

    async def probe(self, path: str) -> None:
        """Ask for ``path`` and care only whether the answer is a good one."""
        await self._send("GET", path)

    async def post(self, path: str, body: object, *, urgent: bool = False) -> object:
        """Send ``body`` as JSON and return the JSON of the answer, None where it is empty."""
        response = await self._send("POST", path, body, urgent=urgent)
        return _json(response) if response.content else None

    @asynccontextmanager
    async def events(self, path: str, body: object) -> AsyncGenerator[httpx2.EventSource]:
        """Send ``body`` as JSON and stream the server-sent events of the answer; read them inside the block.

        Closing the ``response`` of what is returned ends the stream; its reader gets ``EngineUnavailable``.
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
        if self._given:
            return self._given
        if self._kept and not urgent and self._kept[0] is asyncio.get_running_loop():
            return self._kept[1]
        if self._single is None:
            self._single = self._client(keep=0)
        return self._single

    def _client(self, *, keep: int) -> httpx2.AsyncClient:
        limits = httpx2.Limits(max_connections=self._max_connections, max_keepalive_connections=keep)
        # A proxy from the environment is never the way to this machine itself; and where nothing is encrypted,
        # loading the certificates (30 ms) is in vain.
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
            raise EngineProtocolError(f"{self.url} sent something that makes no sense: {error}") from error
        except httpx2.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise EngineUnavailable(f"the connection to {self.url} broke: {reason}") from error


def failure(status: int, message: str, *, retry_after: float | None = None) -> EngineError:
    """Make the error that an HTTP status stands for; ``message`` is the server's."""
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
    """Raise what a status other than 200 stands for, with the words of the server."""
    if response.status_code == HTTPStatus.OK:
        return
    text = (await response.aread()).decode(errors="replace")
    headers = response.headers
    retry_after = _milliseconds(headers.get("retry-after-ms"))
    if retry_after is None:
        retry_after = _seconds(headers.get("retry-after"))
    raise failure(response.status_code, message_of(text), retry_after=retry_after)


def message_of(text: str) -> str:
    """Find the message in the body of an error, whatever its shape: OpenAI's, FastAPI's, or plain text."""
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
        raise EngineProtocolError(f"{response.url} answered with no JSON: {_plain(response.text)}") from error


def _plain(text: str) -> str:
    words = " ".join(text.split())
    return (words[:_SHOWN] + " …" if len(words) > _SHOWN else words) or "(an empty answer)"


def _milliseconds(retry_after: str | None) -> float | None:
    """Read OpenAI's own ``retry-after-ms``, which is more exact, in seconds."""
    try:
        return max(0.0, float(retry_after) / 1000) if retry_after else None
    except ValueError:
        return None


def _seconds(retry_after: str | None) -> float | None:
    """Read a ``Retry-After`` header: seconds, or a date (RFC 9110, 10.2.3)."""
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
        raise ConfigurationError(f"{url!r} is no URL: {error}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ConfigurationError(f"{url!r} is no URL of a server: write it like http://127.0.0.1:30000")
    return url.rstrip("/")
