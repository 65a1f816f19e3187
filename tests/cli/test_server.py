"""`sprint engine`, and `--engine sglang`: with a scripted process and scripted answers."""

import asyncio
import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from sprint_agents.cli import engines
from sprint_agents.engines.sglang.server import DetachedServer, find_detached, stop_detached
from tests.engines.openai import scripted as openai
from tests.engines.sglang.scripted import Act, ScriptedServer, completes

ANSWER = "<Final_answer>\\boxed{4}</Final_answer>"
STAND_IN = """
import http.server, sys
print("arguments", *sys.argv[1:], flush=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""

Serve = Callable[[Act], AbstractContextManager[ScriptedServer]]


@pytest.fixture
def serve() -> Serve:
    """A scripted server on another thread's loop, since a command runs its own loop in this thread."""

    @contextmanager
    def serving(act: Act) -> Iterator[ScriptedServer]:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        server = ScriptedServer([act])
        try:
            asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result()
            yield server
            asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result()
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    return serving


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint, and a module of SGLang's name that serves it."""
    package = tmp_path / "path" / "sglang"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "launch_server.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    directory = tmp_path / "tiny"
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps({"dtype": "float32", "vocab_size": 4}))
    return directory


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "state"
    monkeypatch.setattr(engines, "STATE", folder)
    yield folder
    asyncio.run(stop_detached(folder, stop_timeout=0.1))


def test_up_status_down(call, model: Path, state: Path) -> None:
    options = ("--state", state)
    assert (call("engine", "status", *options).exit_code, call("engine", "down", *options).stdout) == (
        1,
        "no server is up\n",
    )
    up = call("engine", "up", "--model", model, "--python", sys.executable, *options, "--", "--flag", "of sglang")
    assert (up.exit_code, up.stderr) == (0, "")
    assert up.stdout.startswith("up: http://127.0.0.1:")
    assert str(model) in up.stdout
    assert "--flag of sglang" in (state / "server.log").read_text()
    assert call("engine", "status", *options).stdout == up.stdout
    again = call("engine", "up", "--model", model, "--python", sys.executable, *options)
    assert again.exit_code == 2
    assert "is up already at" in again.stderr
    down = call("engine", "down", *options)
    assert (down.exit_code, down.stdout) == (0, up.stdout.replace("up:", "stopped:"))
    assert call("engine", "status", *options).exit_code == 1


def test_json_is_the_record(call, model: Path, state: Path) -> None:
    options = ("--state", state, "--json")
    assert json.loads(call("engine", "status", *options).stdout) is None
    up = call("engine", "up", "--model", model, "--python", sys.executable, *options)
    record = DetachedServer.model_validate_json(up.stdout)
    assert record == find_detached(state)
    assert call("engine", "status", *options).stdout == up.stdout
    assert call("engine", "down", *options).stdout == up.stdout
    assert not record.process.running


def test_up_without_sglang_says_where_to_get_it(call, model: Path, state: Path) -> None:
    result = call("engine", "up", "--model", model, "--python", state / "none", "--state", state)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "make sglang" in result.stderr


@pytest.mark.parametrize("command", ["up", "status", "down"])
def test_every_command_has_help(call, command: str) -> None:
    result = call("engine", command, "--help")
    assert result.exit_code == 0
    assert f"sprint engine {command}" in result.stdout


def test_run_asks_the_server_at_the_url(call, serve: Serve) -> None:
    with serve(completes(list(ANSWER), list(ANSWER.encode()))) as server:
        result = call("run", "2+2?", "--engine", "sglang", "--url", server.url, "--json")
        assert server.bodies("/generate")[0]["input_ids"] == list(b"2+2?\n")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout)["answer"] == "4"


def test_run_finds_the_server_that_was_started(call, serve: Serve, model: Path, state: Path) -> None:
    with serve(completes(list(ANSWER), list(ANSWER.encode()))) as server:
        call("engine", "up", "--model", model, "--python", sys.executable, "--state", state)
        record = find_detached(state)
        assert record is not None
        (state / "server.json").write_text(record.model_copy(update={"url": server.url}).model_dump_json())
        result = call("run", "2+2?", "--engine", "sglang")
    assert result.exit_code == 0
    assert "answer  4" in result.stdout


def test_without_a_server_it_says_how_to_start_one(call, state: Path) -> None:
    result = call("run", "2+2?", "--engine", "sglang")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "`sprint engine up`" in result.stderr


def test_a_url_is_for_a_server_only(call) -> None:
    result = call("run", "countdown 3 7 25 46", "--engine", "fake", "--url", "http://127.0.0.1:1")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "give --engine sglang or --engine openai" in result.stderr


def test_run_asks_a_server_with_openais_api(call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "secret")
    with openai.served(openai.says('{"answer"', ': "4"}')) as server:
        options = ("--engine", "openai", "--url", server.base, "--model", "some/model", "--api-key-env", "MY_KEY")
        result = call("run", "2+2?", *options, "--json")
        (exchange,) = server.exchanges
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout)["answer"] == "4"
    assert exchange.body["model"] == "some/model"
    assert exchange.headers["authorization"] == "Bearer secret"


@pytest.mark.parametrize("option", [("--url", "http://127.0.0.1:1/v1"), ("--model", "some/model")])
def test_openais_api_needs_a_server_and_a_model(call, option: tuple[str, str]) -> None:
    result = call("run", "2+2?", "--engine", "openai", *option)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "give --url" in result.stderr
    assert "and --model" in result.stderr


def test_run_asks_a_hosted_model(call, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pydantic_ai")
    with openai.served(openai.says('{"answer"', ': "4"}')) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base)
        monkeypatch.setenv("OPENAI_API_KEY", "secret")
        result = call("run", "2+2?", "--engine", "pydantic-ai", "--model", "openai-chat:gpt-5", "--json")
        (exchange,) = server.exchanges
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout)["answer"] == "4"
    assert exchange.body["model"] == "gpt-5"
    assert exchange.headers["authorization"] == "Bearer secret"


@pytest.mark.parametrize(
    ("model", "words"), [((), "give --model"), (("--model", "none:such"), "'none:such' cannot be used")]
)
def test_a_hosted_model_needs_a_name(call, model: tuple[str, ...], words: str) -> None:
    pytest.importorskip("pydantic_ai")
    result = call("run", "2+2?", "--engine", "pydantic-ai", *model)
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr
