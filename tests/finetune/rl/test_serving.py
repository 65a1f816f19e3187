"""A server is told to load the weights of the latest iteration, and its refusals are errors."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from sprint_agents.errors import EngineProtocolError, EngineRejected, EngineUnavailable
from sprint_finetune.rl.serving import reload_weights


@contextmanager
def server(status: int, answer: str) -> Iterator[tuple[str, list[tuple[str, object]]]]:
    asked: list[tuple[str, object]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer.encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}", asked
        finally:
            listening.shutdown()
            thread.join()


def test_the_server_loads_a_checkpoint_from_disk():
    with server(200, '{"success": true, "message": "Succeeded", "num_paused_requests": 0}') as (url, asked):
        asyncio.run(reload_weights(url, Path("/runs/checkpoint")))
    assert asked == [("/update_weights_from_disk", {"model_path": "/runs/checkpoint", "flush_cache": True})]


@pytest.mark.parametrize(
    ("status", "answer", "error", "message"),
    [
        (400, '{"success": false, "message": "no such folder"}', EngineRejected, "no such folder"),
        (404, "not found", EngineProtocolError, "is it an SGLang server"),
    ],
)
def test_a_refusal_is_an_error(status, answer, error, message):
    with server(status, answer) as (url, _), pytest.raises(error, match=message):
        asyncio.run(reload_weights(url, Path("/runs/checkpoint")))


def test_a_server_that_is_away_is_an_error():
    with pytest.raises(EngineUnavailable, match="did not load"):
        asyncio.run(reload_weights("http://127.0.0.1:9", Path("/runs/checkpoint")))
