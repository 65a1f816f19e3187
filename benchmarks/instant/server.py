"""A server on the loopback interface that answers at once, with SGLang's and with OpenAI's API; run as its own process.

It streams an event for each token, one after the other, or as few events as a request asks for. ``/recorded`` returns
the requests for completions since the last call, in order, so that another client can send the same ones; what was sent
in one request is there one by one.
"""

import asyncio
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import pairwise, zip_longest

from .engines import ANSWER_TURN, LONG_RESULT, RESULT_TURN, plan_turn

_TOKEN = re.compile(r" ?\w+|[^\w\s]+|\s")
_CHAT = "/v1/chat/completions"


class Vocabulary:
    """The tokens that were seen, each by its id."""

    size = 1_000_000

    def __init__(self) -> None:
        self._tokens: list[str] = []
        self._ids: dict[str, int] = {}

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text."""
        for token in _TOKEN.findall(text):
            if token not in self._ids:
                self._ids[token] = len(self._tokens)
                self._tokens.append(token)
        return [self._ids[token] for token in _TOKEN.findall(text)]

    def decode(self, ids: list[int]) -> str:
        """Return the text of ids."""
        return "".join([self._tokens[token] for token in ids])


class InstantServer(asyncio.Protocol):
    """One connection."""

    def __init__(self, recorded: list[str], texts: Mapping[str, str], vocabulary: Vocabulary) -> None:
        self.recorded, self.texts, self.vocabulary = recorded, texts, vocabulary
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every request that has arrived."""
        self.received += data
        while (head := self.received.find(b"\r\n\r\n")) >= 0:
            first, *lines = self.received[:head].decode("latin1").split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines)
            end = head + 4 + int(headers.get("content-length", 0))
            if len(self.received) < end:
                return
            body, self.received = self.received[head + 4 : end], self.received[end:]
            self.answer(first.split(" ")[1], body.decode())

    def answer(self, path: str, body: str) -> None:
        """Answer one request."""
        sent = json.loads(body) if body else {}
        if path == "/generate" and isinstance(sent.get("rid"), list):
            several = zip(sent["rid"], sent["input_ids"], sent["sampling_params"], strict=True)
            names = ("rid", "input_ids", "sampling_params")
            self.recorded += [json.dumps({**sent, **dict(zip(names, each, strict=True))}) for each in several]
            self.stream(_together([*map(self.completion, sent["input_ids"], sent["sampling_params"])]))
        elif path == "/generate" and "logit_bias" not in sent["sampling_params"]:
            self.recorded.append(body)
            text = self.texts[_asked(self.vocabulary.decode(sent["input_ids"][-200:]))]
            self.stream(_sglang(text, self.vocabulary, sent["sampling_params"].get("stream_interval", 1)))
        elif path == _CHAT:
            self.recorded.append(body)
            text = self.texts[_asked(" ".join(message["content"] for message in sent["messages"][-2:]))]
            if sent["stream"]:
                self.stream(_openai(text))
            else:
                self.send(_openai_whole(text))
        else:
            content, status = self.other(path, sent)
            self.send(json.dumps(content), status=status)

    def completion(self, ids: list[int], sampling: dict[str, int]) -> Sequence[str]:
        """Return the events of one of several completions."""
        text = self.texts[_asked(self.vocabulary.decode(ids[-200:]))]
        return _sglang_events(text, self.vocabulary, sampling.get("stream_interval", 1))

    def send(self, content: str, *, status: int = 200) -> None:
        """Send JSON."""
        body = content.encode()
        head = f"HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self.transport.write(head.encode() + body)  # type: ignore[attr-defined]

    def stream(self, events: Sequence[bytes]) -> None:
        """Send events one by one, in turn with those of other requests."""
        head = b"HTTP/1.1 200 x\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        self.transport.write(head)  # type: ignore[attr-defined]
        self.next_event(iter(events))

    def next_event(self, events: Iterator[bytes]) -> None:
        """Send an event, and the others later."""
        if (event := next(events, None)) is None:
            self.transport.write(b"0\r\n\r\n")  # type: ignore[attr-defined]
            return
        self.transport.write(event)  # type: ignore[attr-defined]
        asyncio.get_running_loop().call_soon(self.next_event, events)

    def other(self, path: str, sent: dict[str, object]) -> tuple[object, int]:
        """Answer what is not a request for a completion."""
        match path, sent.get("prompt"):
            case "/recorded", _:
                recorded = [*self.recorded]
                self.recorded.clear()
                return recorded, 200
            case "/model_info", _:
                return {"model_path": "/nowhere", "served_model_name": "instant", "is_generation": True}, 200
            case "/server_info", _:
                return {}, 200
            case "/v1/models", _:
                return {"data": [{"id": "instant", "max_model_len": 10**7}]}, 200
            case "/tokenize", str(prompt):
                return {"tokens": self.vocabulary.encode(prompt), "count": 0}, 200
            case "/tokenize", list(prompts):
                return {"tokens": [*map(self.vocabulary.encode, prompts)], "count": 0}, 200
            case "/detokenize", _:
                tokens = sent["tokens"]
                many = bool(tokens) and isinstance(tokens[0], list)  # type: ignore[index]
                texts = [self.vocabulary.decode(ids) for ids in (tokens if many else [tokens])]  # type: ignore[union-attr]
                return {"text": texts if many else texts[0]}, 200
            case "/generate", _:
                return {
                    "error": {"message": f"logit_bias must has keys in [0, {Vocabulary.size - 1}], got 2147483647."}
                }, 400
            case _:
                return {"error": {"message": "no such path"}}, 404


def _asked(text: str) -> str:
    """Return what the end of a prompt asks for."""
    if text.rfind("executor 1.") > text.rfind("planner, stage"):
        return "result"
    if text.endswith("long"):
        return "long"
    return "plan" if "planner, stage 1" in text else "answer"


def _together(answers: Sequence[Sequence[str]]) -> Sequence[bytes]:
    """Stream several texts in one answer, an event of each in turn."""
    rounds = zip_longest(*answers)
    events = [(index, event) for each in rounds for index, event in enumerate(each) if event is not None]
    return _events([f'{event[:-1]}, "index": {index}}}' for index, event in events])


def _sglang(text: str, vocabulary: Vocabulary, interval: int) -> Sequence[bytes]:
    return _events(_sglang_events(text, vocabulary, interval))


@cache
def _sglang_events(text: str, vocabulary: Vocabulary, interval: int) -> list[str]:
    """Stream a text as SGLang does with ``--incremental-streaming-output``: a token, then ``interval`` at once."""
    events: list[str] = []
    ids = vocabulary.encode(text)
    ends = [1, *range(1 + interval, len(ids), interval), len(ids)]
    for begin, count in pairwise([0, *ends]):
        new = ids[begin:count]
        meta = {
            "id": "0123456789abcdef",
            "finish_reason": {"type": "stop", "matched": 0} if count == len(ids) else None,
            "prompt_tokens": 1000,
            "weight_version": "default",
            "completion_tokens": count,
            "cached_tokens": 900,
            "e2e_latency": 0.01,
        }
        events.append(json.dumps({"text": vocabulary.decode(new), "output_ids": new, "meta_info": meta}))
    return events


@cache
def _openai(text: str) -> Sequence[bytes]:
    """Stream a text as vLLM does."""

    def event(delta: object, reason: str | None = None, **more: object) -> str:
        choices = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}] if delta is not None else []
        head = {"id": "chatcmpl-0123456789abcdef", "object": "chat.completion.chunk", "created": 1, "model": "instant"}
        return json.dumps({**head, "choices": choices, **more})

    pieces: list[str] = _TOKEN.findall(text)
    usage = _usage(text)
    begin = event({"role": "assistant", "content": ""})
    return _events(
        [begin, *(event({"content": piece}) for piece in pieces), event({}, "stop"), event(None, usage=usage)]
    )


@cache
def _openai_whole(text: str) -> str:
    """Return the answer with a whole text, as vLLM does."""
    message = {"role": "assistant", "content": text, "tool_calls": []}
    choices = [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop", "stop_reason": None}]
    head = {"id": "chatcmpl-0123456789abcdef", "object": "chat.completion", "created": 1, "model": "instant"}
    return json.dumps({**head, "choices": choices, "usage": _usage(text)})


def _usage(text: str) -> dict[str, int]:
    tokens = len(_TOKEN.findall(text))
    return {"prompt_tokens": 1000, "completion_tokens": tokens, "total_tokens": 1000 + tokens}


def _events(events: list[str]) -> Sequence[bytes]:
    """Return events as chunks of HTTP."""
    return [f"{len(event) + 8:x}\r\ndata: {event}\n\n\r\n".encode() for event in [*events, "[DONE]"]]


async def main(width: int) -> None:
    """Serve, and print the port."""
    texts = {"plan": "".join(plan_turn(width)), "result": RESULT_TURN, "answer": ANSWER_TURN, "long": LONG_RESULT}
    vocabulary = Vocabulary()
    recorded: list[str] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: InstantServer(recorded, texts, vocabulary), "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    stopped = asyncio.Event()
    loop.add_reader(sys.stdin, stopped.set)  # closed when the program that started it ends
    await stopped.wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
