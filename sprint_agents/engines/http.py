"""The HTTP client of engines: one connection per request, event streams, and every failure as an ``EngineError``.

Invariants:

- Only ``EngineError`` leaves this module, except ``ConfigurationError`` for an invalid URL, key or proxy.
- No message has a secret of the connection (``masked``), nor a control character from the server.
- Connections are kept between requests only from ``open`` to ``aclose``, and only on the event loop that called
  ``open``. Any other loop gets a connection per request, so no connection outlives its loop.
- Urgent calls (aborts) use separate connections: they never wait for the streams that they are meant to end.
- A streamed request is left through its ``Exchange``, which comes before its connection closes.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from urllib.request import getproxies

import httpx2

from sprint_agents.arguments import at_least, more_than_zero
from sprint_agents.errors import (
    ConfigurationError,
    EngineError,
    EngineOverloaded,
    EngineProtocolError,
    EngineRejected,
    EngineTimeout,
    EngineUnavailable,
)

from .address import ServerAddress, check_headers, redirect_target, shown_url
from .error_text import message_of, plain, printable
from .event_stream import event_source
from .exchange import EventStream, Exchange
from .json_text import read_json
from .pools import PooledTransport

_LONGEST_REFUSAL = 1024 * 1024
_MOST_REDIRECTS = 5
_AGAIN = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_EARLY)
_RETRY_DELAY = re.compile(r'"retryDelay"\s*:\s*"(\d{1,9}(?:\.\d+)?)s"')
"""Google's ``RetryInfo`` in the body of an error, beside which there is no header."""
_REDIRECTS = (HTTPStatus.TEMPORARY_REDIRECT, HTTPStatus.PERMANENT_REDIRECT)
"""The redirects that keep the method and the body."""


class HttpClient:
    """The connections to one server; ``url`` is its URL for people, without credentials.

    ``read_timeout`` is the longest silence, in seconds, while an answer is awaited or streamed. The caller's own
    ``client``, if there is one, is used with these timeouts and never closed here. ``headers`` go with every request.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None,
        client: httpx2.AsyncClient | None,
        headers: Mapping[str, str] | None = None,
        max_connections: int,
        connect_timeout: float,
        read_timeout: float,
    ) -> None:
        at_least(1, max_connections=max_connections)
        more_than_zero(connect_timeout=connect_timeout, read_timeout=read_timeout)
        check_headers(headers or {})
        self._address = ServerAddress(url)
        self.url = self._address.shown
        authorization = self._address.authorization(api_key)
        self._own_client = client
        self._headers = {**(headers or {}), **({"Authorization": authorization} if authorization else {})}
        self._secrets = self._address.secrets({**(client.headers if client else {}), **self._headers})
        self._max_connections = max_connections
        self._silence = read_timeout
        self._timeout = httpx2.Timeout(read_timeout, connect=connect_timeout, pool=None)
        self._streamed = httpx2.Timeout(read_timeout, connect=connect_timeout, read=None, pool=None)
        self._kept: tuple[asyncio.AbstractEventLoop, httpx2.AsyncClient] | None = None
        self._single: httpx2.AsyncClient | None = None
        self.closed = False

    @property
    def local(self) -> bool:
        """Whether the server runs on this machine."""
        return self._address.local

    async def open(self) -> None:
        """Keep connections between the requests of the running loop until ``aclose``."""
        if self._own_client is None and self._kept is None:
            self._kept = asyncio.get_running_loop(), self._client(keep=True)

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
        """Raise unless the server answers a request for ``path`` with success."""
        await self._send("GET", path)

    async def post(self, path: str, body: object, *, urgent: bool = False) -> object:
        """Send ``body`` as JSON; return the JSON of the answer, or None if the answer is empty."""
        response = await self._send("POST", path, body, urgent=urgent)
        return _json(response) if response.content else None

    @asynccontextmanager
    async def events(
        self,
        path: str,
        body: object,
        exchange: Exchange | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        whole: bool = False,
    ) -> AsyncGenerator[EventStream]:
        """Send ``body`` as JSON and stream the server-sent events of the answer; read them inside the block.

        With ``whole``, the answer is one piece of JSON, before which the server may be silent for any time.

        Closing the ``response`` of the stream ends it. Its reader then gets ``EngineUnavailable``.
        """
        exchange, silence = exchange or Exchange(), None if whole else self._silence
        with self._translated():
            sending = self._request("POST", path, body, exchange=exchange, headers=headers)
            response = await exchange.wait(sending, silence=silence)
            exchange.answered()
            try:
                source = event_source(response, url=f"{self.url}{path}")
                yield EventStream(exchange, response, source, silence=silence)
            finally:
                try:
                    await exchange.leave()
                finally:
                    await response.aclose()

    @contextmanager
    def masked(self) -> Generator[None]:
        """Take the secrets of the connection out of every ``EngineError`` that leaves the block."""
        try:
            yield
        except EngineError as error:
            error.args = tuple(self.mask(part) if isinstance(part, str) else part for part in error.args)
            if self.mask(str(error.__cause__)) != str(error.__cause__):
                error.__cause__ = None
            raise

    def mask(self, text: str) -> str:
        """Return ``text`` without the secrets of the connection."""
        return self._secrets.mask(text)

    async def _send(self, method: str, path: str, body: object = None, *, urgent: bool = False) -> httpx2.Response:
        with self._translated():
            return await self._request(method, path, body, urgent=urgent)

    async def _request(
        self,
        method: str,
        path: str,
        body: object,
        *,
        urgent: bool = False,
        exchange: Exchange | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx2.Response:
        """Send a request, follow redirects within the host, and return the answer if its status is a success.

        With an ``exchange``, which watches for silence itself, the answer is streamed.
        """
        client, url = self._pick(urgent=urgent), self._address.at(path)
        timeout = self._timeout if exchange is None else self._streamed
        headers = {**self._headers, **headers} if headers else self._headers
        extensions = None if exchange is None else {"trace": exchange.trace}
        for _ in range(_MOST_REDIRECTS):
            request = client.build_request(
                method, url, json=body, headers=headers, timeout=timeout, extensions=extensions
            )
            response = await client.send(request, stream=exchange is not None)
            try:
                if not response.is_redirect:
                    await _accept(response)
                    return response
                url = self._redirected(url, response)
            except BaseException:
                await response.aclose()
                raise
            await response.aclose()
        raise EngineProtocolError(f"{self.url}{path} redirects more than {_MOST_REDIRECTS} times")

    def _redirected(self, url: str, response: httpx2.Response) -> str:
        """Return the URL that an answer redirects to.

        Raises:
            EngineProtocolError: it leads to another host, is no longer encrypted, or would change the method.
        """
        status, target = response.status_code, redirect_target(url, response.headers.get("location", ""))
        if target and status in _REDIRECTS and self._address.keeps(target):
            return target
        raise EngineProtocolError(
            f"{self.url} redirects ({status}) to {printable(shown_url(target)) if target else 'nowhere'}: if that is "
            "the right server, give its URL to the engine"
        )

    def _pick(self, *, urgent: bool = False) -> httpx2.AsyncClient:
        if self.closed:
            raise EngineUnavailable(f"the engine for {self.url} is closed")
        if self._own_client:
            return self._own_client
        if self._kept and not urgent and self._kept[0] is asyncio.get_running_loop():
            return self._kept[1]
        if self._single is None:
            self._single = self._client(keep=False)
        return self._single

    def _client(self, *, keep: bool) -> httpx2.AsyncClient:
        most = self._max_connections
        limits = httpx2.Limits(max_connections=most, max_keepalive_connections=most if keep else 0)
        # A proxy from the environment never leads to this machine, and loading the certificates takes 30 ms, which
        # an unencrypted connection does not need.
        encrypted = not self.local or self._address.encrypted
        try:
            if keep and (self.local or not getproxies()):
                pools = PooledTransport(max_connections=most, encrypted=encrypted)
                return httpx2.AsyncClient(transport=pools, timeout=self._timeout, trust_env=not self.local)
            return httpx2.AsyncClient(limits=limits, timeout=self._timeout, trust_env=not self.local, verify=encrypted)
        except (ValueError, ImportError, httpx2.InvalidURL):
            raise ConfigurationError(
                "the proxy that the environment names cannot be used: correct HTTP_PROXY, HTTPS_PROXY and ALL_PROXY, "
                "or bring your own client=; a SOCKS proxy needs the package socksio"
            ) from None

    @contextmanager
    def _translated(self) -> Generator[None]:
        with self.masked(), self._as_engine_errors():
            yield

    @contextmanager
    def _as_engine_errors(self) -> Generator[None]:
        try:
            yield
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            reason = str(error) or "timed out"
            raise EngineUnavailable(f"no connection to {self.url}: {reason}. Is the server up?") from error
        except httpx2.TimeoutException as error:
            raise EngineTimeout(f"{self.url} was silent for {self._silence:g} s") from error
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
        case _ if status in _AGAIN:
            return EngineOverloaded(f"the server asks to try again ({status}): {message}", retry_after=retry_after)
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            return EngineRejected(f"the server refuses access ({status}): {message}. Is api_key right?")
        case HTTPStatus.NOT_IMPLEMENTED:
            return EngineRejected(f"the server does not support this ({status}): {message}")
        case _ if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return EngineUnavailable(f"the server failed ({status}): {message}")
        case _ if status >= HTTPStatus.BAD_REQUEST:
            return EngineRejected(message)
        case _:
            return EngineProtocolError(f"unexpected status {status}: {message}")


async def _accept(response: httpx2.Response) -> None:
    """Raise the error for a status that is not a success, with the server's message."""
    if response.is_success:
        return
    headers = response.headers
    text = (await _body(response, most=_LONGEST_REFUSAL)).decode(errors="replace")
    retry_after = _milliseconds(headers.get("retry-after-ms"))
    if retry_after is None:
        retry_after = _seconds(headers.get("retry-after"))
    if retry_after is None and (delay := _RETRY_DELAY.search(text)):
        retry_after = float(delay[1])
    raise failure(response.status_code, message_of(text), retry_after=retry_after)


async def _body(response: httpx2.Response, *, most: int) -> bytes:
    """Read an answer, but not much more than ``most`` bytes of it: a server may never end it."""
    if response.is_stream_consumed:
        return response.content
    content = bytearray()
    async for part in response.aiter_bytes():
        content += part
        if len(content) > most:
            break
    return bytes(content)


def _json(response: httpx2.Response) -> object:
    try:
        return read_json(response.text)
    except ValueError:
        url = shown_url(str(response.url))
        raise EngineProtocolError(f"{url} answered without JSON: {plain(response.text)}") from None


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
    except (ValueError, OverflowError, TypeError):
        return None
    return max(0.0, (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
