"""A server on the loopback interface that answers at once, with SGLang's and with OpenAI's API; run as its own process.

It streams an event for each token, as these servers do. ``/recorded`` returns the requests for
completions since the last call, in order, so that another client can send the same ones.
"""

import asyncio
import json
import re
import sys

from .engines import ANSWER_TURN, RESULT_TURN, plan_turn

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

    def __init__(self, recorded: list[str], replies: dict[str, bytes], vocabulary: Vocabulary) -> None:
        self.recorded, self.replies, self.vocabulary = recorded, replies, vocabulary
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
            kind, content, status = self.answer(first.split(" ")[1], body.decode())
            answer = f"HTTP/1.1 {status} x\r\ncontent-type: {kind}\r\ncontent-length: {len(content)}\r\n\r\n"
            self.transport.write(answer.encode() + content)  # type: ignore[attr-defined]

    def answer(self, path: str, body: str) -> tuple[str, bytes, int]:
        """Return the type, the body and the status of an answer."""
        sent = json.loads(body) if body else {}
        if path == "/generate" and "logit_bias" not in sent["sampling_params"]:
            self.recorded.append(body)
            asked = self.vocabulary.decode(sent["input_ids"][-200:])
            return "text/event-stream", self.replies[f"sglang {_asked(asked)}"], 200
        if path == _CHAT:
            self.recorded.append(body)
            asked = " ".join(message["content"] for message in sent["messages"][-2:])
            return "text/event-stream", self.replies[f"openai {_asked(asked)}"], 200
        content, status = self.other(path, sent)
        return "application/json", json.dumps(content).encode(), status

    def other(self, path: str, sent: dict[str, object]) -> tuple[object, int]:
        """Answer what is not a request for a completion."""
        match path, sent.get("prompt"):
            case "/recorded", _:
                recorded = [*self.recorded]
                self.recorded.clear()
                return recorded, 200
            case "/model_info", _:
                return {"model_path": "/nowhere", "served_model_name": "instant", "is_generation": True}, 200
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
    return "plan" if "planner, stage 1" in text else "answer"


def _sglang(text: str, vocabulary: Vocabulary) -> bytes:
    """Stream a text as SGLang does with ``--incremental-streaming-output``."""
    events: list[str] = []
    ids = vocabulary.encode(text)
    for count, token in enumerate(ids, 1):
        meta = {
            "id": "0123456789abcdef",
            "finish_reason": {"type": "stop", "matched": 0} if count == len(ids) else None,
            "prompt_tokens": 1000,
            "weight_version": "default",
            "completion_tokens": count,
            "cached_tokens": 900,
            "e2e_latency": 0.01,
        }
        events.append(json.dumps({"text": vocabulary.decode([token]), "output_ids": [token], "meta_info": meta}))
    return _events(events)


def _openai(text: str) -> bytes:
    """Stream a text as vLLM does."""

    def event(delta: object, reason: str | None = None, **more: object) -> str:
        choices = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}] if delta is not None else []
        head = {"id": "chatcmpl-0123456789abcdef", "object": "chat.completion.chunk", "created": 1, "model": "instant"}
        return json.dumps({**head, "choices": choices, **more})

    pieces: list[str] = _TOKEN.findall(text)
    usage = {"prompt_tokens": 1000, "completion_tokens": len(pieces), "total_tokens": 1000 + len(pieces)}
    begin = event({"role": "assistant", "content": ""})
    return _events(
        [begin, *(event({"content": piece}) for piece in pieces), event({}, "stop"), event(None, usage=usage)]
    )


def _events(events: list[str]) -> bytes:
    return "".join(f"data: {event}\n\n" for event in [*events, "[DONE]"]).encode()


async def main(width: int) -> None:
    """Serve, and print the port."""
    texts = {"plan": "".join(plan_turn(width)), "result": RESULT_TURN, "answer": ANSWER_TURN}
    vocabulary = Vocabulary()
    replies = {f"sglang {name}": _sglang(text, vocabulary) for name, text in texts.items()}
    replies |= {f"openai {name}": _openai(text) for name, text in texts.items()}
    recorded: list[str] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: InstantServer(recorded, replies, vocabulary), "127.0.0.1", 0, backlog=2048
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    stopped = asyncio.Event()
    loop.add_reader(sys.stdin, stopped.set)  # closed when the program that started it ends
    await stopped.wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
