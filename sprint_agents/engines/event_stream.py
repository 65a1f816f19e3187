"""The server-sent events of an answer, whatever its content type says.

Some gateways send events as plain text, and others a whole answer or an error as an event stream. So the first bytes
say what an answer is: the name of a field, or JSON, which becomes one event.
"""

import re
from collections.abc import AsyncGenerator

import httpx2

from sprint_agents.errors import EngineProtocolError

from .error_text import plain
from .json_text import read_json

_LONGEST_EVENT = 64 * 1024 * 1024
_SPACE = b" \t\r\n\xef\xbb\xbf"
"""Bytes that may come first, a byte order mark included."""
_FIELD = re.compile(rb"(?:data|event|id|retry|error)?:")
_LONGEST_FIELD = 6
_JSON = (b"{", b"[")
_WHOLE_ANSWERS = (b'"finish_reason"', b'"error"')
"""One of these is in the JSON of a server that does not stream."""
_DONE = b"[DONE]"
_END = 4096
"""The bytes in which the last line of a stream is looked for."""
_KEEPALIVES = frozenset({"", '""', "null", "{}", "[done]", "done"})
_PINGS = ("ping", "pong", "keepalive", "keep-alive", "heartbeat")


def event_source(response: httpx2.Response, *, url: str) -> httpx2.EventSource:
    """Return the events of an answer; ``url`` is the one that messages show.

    Iterating raises:
        EngineProtocolError: the answer is not a stream of events, nor the JSON of a completion or an error.
    """
    events = httpx2.Response(
        200,
        headers={"content-type": "text/event-stream"},
        content=_as_events(response, url),
        request=response.request,
    )
    # Event streams are UTF-8, and this decoder drops the byte order mark that some servers send.
    events.encoding = "utf-8-sig"
    return httpx2.EventSource(events, max_event_size=_LONGEST_EVENT)


async def _as_events(response: httpx2.Response, url: str) -> AsyncGenerator[bytes]:
    kind = response.headers.get("content-type", "")
    parts = response.aiter_bytes()
    head = begin = b""
    async for part in parts:
        head += part
        begin = head.lstrip(_SPACE)
        if begin.startswith(_JSON) or b":" in begin or len(begin) > _LONGEST_FIELD:
            break
    declared = kind.lower().startswith("text/event-stream")
    if not begin.startswith(_JSON) and (declared or _FIELD.match(begin)):
        yield head
        end = head[-_END:]
        async for part in parts:
            yield part
            end = (end + part)[-_END:]
        yield _missing(end)
        return
    content = bytearray(begin)
    async for part in parts:
        content += part
        if len(content) > _LONGEST_EVENT:
            break
    if not begin.startswith(_JSON) or not any(mark in content for mark in _WHOLE_ANSWERS):
        text = plain(content.decode(errors="replace"))
        raise EngineProtocolError(f"{url} answered with {kind or 'no content type'}: {text}")
    for line in content.splitlines():
        yield b"data: " + line + b"\n"
    yield b"\n"


def _missing(end: bytes) -> bytes:
    r"""Return the end that the last event of a stream lacks to be read.

    Events are complete only after a blank line, which some servers leave out at the end. An event that was cut off
    stays incomplete. llama.cpp wrote errors in a field of their own until 2025.

    >>> _missing(b'data: {"a": {}}'), _missing(b'data: {"a": {}'), _missing(b'error: {"code": 400}\n\n')
    (b'\n\n', b'', b'\nevent: error\ndata: {"code": 400}\n\n')
    """
    name, _, data = end.rstrip().rpartition(b"\n")[2].partition(b":")
    if name == b"error":
        return b"\nevent: error\ndata:" + data + b"\n\n"
    if name == b"data":  # else the line begins before ``end``
        try:
            read_json(data.decode())
        except ValueError:
            return b"\n\n" if data.strip() == _DONE else b""
    return b"\n\n" if data.endswith((b"}", b"]")) else b""


def is_keepalive(event: httpx2.ServerSentEvent) -> bool:
    """Say whether an event tells nothing: an empty one, a comment, a ping, or one of another type without JSON.

    >>> events = [httpx2.ServerSentEvent(data=data) for data in ("", "ping", '"[PING]"', ": processing", "[]", "{1}")]
    >>> [is_keepalive(event) for event in events], is_keepalive(httpx2.ServerSentEvent("ping", "{1}"))
    ([True, True, True, True, False, False], True)
    >>> is_keepalive(httpx2.ServerSentEvent("close", "bye")), is_keepalive(httpx2.ServerSentEvent("error", "ill"))
    (True, False)
    """
    data = event.data
    if event.event == "message" and data[:1] == "{" and len(data) > len("{}"):
        return False
    word = data.strip().lower()
    if event.event.lower() in _PINGS or word in _KEEPALIVES or word[:1] == ":" or word.strip('"[] ') in _PINGS:
        return True
    return event.event not in ("message", "error") and word[:1] not in ("{", "[")
