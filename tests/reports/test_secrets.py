"""Passwords and keys of HTTP engines stay where they are, and escape sequences from servers reach no terminal."""

import asyncio
import base64
import json
import logging
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from typer.testing import CliRunner

from sprint_agents import Executor, Sprint, SprintError
from sprint_agents.cli.app import app
from sprint_agents.cli.commands import error_line
from sprint_agents.engine import Engine
from sprint_agents.engines.address import _PLACEHOLDERS, Secrets
from sprint_agents.engines.openai import OpenAIEngine
from sprint_agents.engines.sglang import SGLangEngine
from sprint_agents.errors import ConfigurationError, EngineError, EngineRejected, EngineUnavailable
from tests.engines.openai.scripted import Act, ScriptedServer, answers, chunk, events, says, served, stream
from tests.engines.openai.test_chat import complete, play

DOWN = "http://me:hunter2@127.0.0.1:1/v1"
KEY = "sk-proj-0123456789abcdefghij"


def everything_in(error: BaseException) -> str:
    """Return all that a program may print or store of an error."""
    printed = "".join(traceback.format_exception(error))
    return f"{error} {error!r} {error.args} {printed}"


def described(make: Callable[[str], Engine], url: str) -> str:
    """Return the name of an engine for a URL, or everything in the error if the URL is refused."""
    try:
        return make(url).name
    except ConfigurationError as error:
        return everything_in(error)


def with_user(url: str, user: str = "me:hunter2") -> str:
    return url.replace("://", f"://{user}@")


class TestPasswordsInUrls:
    @pytest.mark.reported(
        "harry0703/MoneyPrinterTurbo#1049", "BitterSecurity/Decepticon#495", "NorthlandPositronics/Cogtrix#903"
    )
    def test_never_reach_the_error_the_log_the_journal_or_the_model(self, tmp_path: Path) -> None:
        journal = tmp_path / "journal"
        plan = says('{"plan": [{"task"', ': "Count the apples"}]}')

        async def main() -> tuple[str, str]:
            async with ScriptedServer([plan, says('{"answer"', ': "4"}')]) as server:
                planner = OpenAIEngine(server.base, model="tiny")
                down = OpenAIEngine("http://me:hunter2@127.0.0.1:1/v1", model="tiny", patience=0)
                run = await Sprint(planner, executor=Executor(str, engine=down)).run("How many?", journal=journal)
                return run.model_dump_json(), json.dumps(server.sent)

        with capture_logs() as logs:
            run, sent = asyncio.run(main())
        assert "no connection to http://127.0.0.1:1/v1" in run
        assert "failed" in sent
        for text in (run, sent, journal.read_text(), str(logs)):
            assert "hunter2" not in text

    @pytest.mark.parametrize("secret", ["hunter2", "p@ss/w", "p%40ss", "a b", "ü", "%2F?#", 'tab\tquote"'])
    def test_are_in_no_error_however_they_are_written(self, secret: str) -> None:
        written = httpx2.URL("http://127.0.0.1:1/v1").copy_with(username="me", password=secret)
        engine = OpenAIEngine(str(written), model="tiny", patience=0)
        with pytest.raises(EngineUnavailable) as raised:
            asyncio.run(complete(engine))
        assert secret not in everything_in(raised.value)

    @pytest.mark.parametrize(
        ("user", "header"),
        [
            ("me:hunter2", "me:hunter2"),
            ("me", "me:"),
            (":hunter2", ":hunter2"),
            ("me:p%40ss", "me:p@ss"),
            ("me:a:b", "me:a:b"),
            ("m%C3%BC:x", "mü:x"),
        ],
    )
    def test_are_sent_as_basic_credentials(self, user: str, header: str) -> None:
        async def main() -> Any:
            async with ScriptedServer([says("4")]) as server:
                await complete(OpenAIEngine(with_user(server.base, user), model="tiny"))
                return server.exchanges[0]

        exchange = asyncio.run(main())
        kind, _, words = exchange.headers["authorization"].partition(" ")
        assert (kind, base64.b64decode(words).decode()) == ("Basic", header)
        assert "@" not in exchange.headers["host"]

    def test_beside_a_key_are_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="leave one out") as raised:
            OpenAIEngine(DOWN, model="tiny", api_key=KEY)
        assert not any(secret in everything_in(raised.value) for secret in ("hunter2", KEY))

    @pytest.mark.parametrize("make", [SGLangEngine, lambda url: OpenAIEngine(url, model="tiny")])
    @pytest.mark.parametrize(
        "url",
        [
            "ftp://me:hunter2@host/v1",
            "me:hunter2@host",
            "//me:hunter2@host",
            "http://me:hunter2#x@host/v1",
            "http://me:12/hunter2@host/v1",
            "http://me:1?hunter2@host:port",
            "http://me:hunter2@host:port/v1",
            "http://me:hunter2@",
            "http://me:hunter2@[::1/v1",
            "http:// me:hunter2@host\n",
        ],
    )
    def test_in_an_invalid_url(self, url: str, make: Any) -> None:
        assert "hunter2" not in described(make, url)

    def test_are_not_in_names(self) -> None:
        engine = SGLangEngine("https://me:hunter2@example.org:30000/?token=abcdefg")
        assert engine.name == "sglang:https://example.org:30000"

    def test_sglang_with_a_password(self) -> None:
        async def main() -> None:
            with pytest.raises(EngineUnavailable) as raised:
                async with SGLangEngine(DOWN, patience=0):
                    pass
            assert "hunter2" not in everything_in(raised.value)

        asyncio.run(main())

    def test_on_the_command_line(self) -> None:
        options = ("--engine", "openai", "--url", "http://me:hunter2@127.0.0.1:1/v1", "--model", "tiny")
        result = CliRunner().invoke(app, ["run", "2+2?", *options])
        assert result.exit_code == 1
        assert "no connection to http://127.0.0.1:1/v1" in result.stderr
        assert "hunter2" not in result.output + result.stderr


def repeats(secret: str) -> list[Act]:
    """Return the ways in which a server may repeat a secret."""
    said = f"Incorrect API key provided: {secret}."
    return [
        *(answers({"error": {"message": said}}, status) for status in (400, 401, 403, 404, 409, 429, 500, 503)),
        answers(f"<html>{said}</html>", 502, content_type="text/html"),
        answers(f"{said}", content_type="text/html"),
        answers({"weird": {"headers": {"authorization": f"Bearer {secret}"}}}, 400),
        answers("x" * 280 + f" {secret}", 400),
        answers("x" * 285 + secret, 400),
        stream(events([json.dumps({"error": {"message": said, "code": 400}})])),
        stream(events([json.dumps({"object": "error", "message": said, "code": 400})])),
        stream(events([f"<{secret}>"])),
        stream(f"event: error\ndata: {said}\n\n".encode()),
        stream(events([chunk(delta={"refusal": said}), chunk(finish="stop")])),
        stream(events([chunk("4"), chunk(delta={"content": [1, secret]})])),
    ]


class TestSecretsThatAServerRepeats:
    @pytest.mark.parametrize("number", range(len(repeats(KEY))))
    def test_a_key(self, number: int) -> None:
        async def scene(engine: OpenAIEngine, _: ScriptedServer) -> None:
            with pytest.raises(EngineError) as raised:
                await complete(engine)
            shown = everything_in(raised.value)
            assert KEY not in shown
            assert KEY[:12] not in shown

        with capture_logs() as logs:
            play([repeats(KEY)[number]], scene, api_key=KEY, patience=0)
        assert KEY not in str(logs)

    @pytest.mark.parametrize("number", range(len(repeats("hunter2"))))
    def test_a_password(self, number: int) -> None:
        header = base64.b64encode(b"me:hunter2").decode()

        async def main() -> str:
            async with ScriptedServer([repeats(f"hunter2 {header}")[number]]) as server:
                with pytest.raises(EngineError) as raised:
                    await complete(OpenAIEngine(with_user(server.base), model="tiny", patience=0))
                return everything_in(raised.value)

        shown = asyncio.run(main())
        assert "hunter2" not in shown
        assert header not in shown

    @pytest.mark.parametrize("headers", [{"api-key": KEY}, {"X-Auth-Token": KEY}, {"Authorization": f"Bearer {KEY}"}])
    def test_a_key_in_the_headers_of_ones_own_client(self, headers: dict[str, str]) -> None:
        async def main() -> str:
            async with ScriptedServer([repeats(KEY)[0]]) as server, httpx2.AsyncClient(headers=headers) as own:
                with pytest.raises(EngineError) as raised:
                    await complete(OpenAIEngine(server.base, model="tiny", client=own))
                return str(raised.value)

        assert asyncio.run(main()) == "Incorrect API key provided: [secret]."

    @pytest.mark.parametrize("key", ["ollama", "EMPTY", "none"])
    def test_a_placeholder_is_no_secret(self, key: str) -> None:
        assert Secrets([key]).mask(f"{key} has no such model") == f"{key} has no such model"

    def test_a_key_in_the_query(self) -> None:
        async def main() -> str:
            async with ScriptedServer() as server:
                engine = OpenAIEngine(f"{server.base}?api-key={KEY}&api-version=2024-01", model="tiny")
                with pytest.raises(EngineError) as raised:
                    await complete(engine)
                server.exchanges.clear()
                return everything_in(raised.value)

        assert KEY not in asyncio.run(main())

    def test_a_refusal_keeps_its_meaning(self) -> None:
        async def scene(engine: OpenAIEngine, _: ScriptedServer) -> None:
            with pytest.raises(EngineRejected, match=r"provided: \[secret\]\.\. Is api_key right") as raised:
                await complete(engine)
            assert raised.value.run is None

        play([repeats(KEY)[1]], scene, api_key=KEY)

    def test_an_unknown_finish_reason_in_the_log(self) -> None:
        with capture_logs() as logs:
            play([says("4", finish=KEY)], lambda engine, _: complete(engine), api_key=KEY)
        assert logs
        assert KEY not in str(logs)

    @given(st.text(min_size=4, max_size=30), st.text(max_size=30), st.text(max_size=30))
    def test_any_secret_in_any_text(self, secret: str, before: str, after: str) -> None:
        assume(secret.lower() not in _PLACEHOLDERS)  # such as "none", which are no keys
        masked = Secrets([secret]).mask(before + secret + after)
        assert secret not in masked.replace("[secret]", "\0")


class TestKeys:
    @pytest.mark.parametrize("key", [f"{KEY}\n", f" {KEY}", "sk-ü", "sk-\x00", "sk\r\nX-Admin: 1"])
    @pytest.mark.parametrize("make", [SGLangEngine, lambda url, **given: OpenAIEngine(url, model="tiny", **given)])
    def test_that_no_header_can_have_are_refused_and_not_shown(self, key: str, make: Any) -> None:
        with pytest.raises(ConfigurationError, match=r"strip\(\) it") as raised:
            make("http://127.0.0.1:1/v1", api_key=key)
        assert key.strip() not in everything_in(raised.value)

    def test_are_not_in_the_log_of_the_http_client(self, caplog: pytest.LogCaptureFixture) -> None:
        async def main() -> None:
            async with ScriptedServer([says("4")]) as server:
                await complete(OpenAIEngine(with_user(server.base), model="tiny"))

        with caplog.at_level(logging.INFO):
            asyncio.run(main())
        assert "hunter2" not in caplog.text

    @pytest.mark.parametrize("proxy", ["socks5://me:hunter2@127.0.0.1:1", "gopher://me:hunter2@127.0.0.1:1"])
    def test_a_proxy_that_cannot_be_used(self, proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HTTP_PROXY", proxy)
        with pytest.raises(ConfigurationError, match="HTTP_PROXY") as raised:
            asyncio.run(complete(OpenAIEngine("http://example.org/v1", model="tiny")))
        assert "hunter2" not in everything_in(raised.value)


@given(st.text(alphabet="ab:/@?#[]% ", max_size=12), st.sampled_from(["http://", "https://", "//", "", "x:"]))
def test_no_part_of_a_password_is_shown_whatever_it_contains(middle: str, scheme: str) -> None:
    url = f"{scheme}me:{middle}SECRET{middle}@host/v1"
    assert "SECRET" not in described(SGLangEngine, url)


ESCAPES = ["\x1b]52;c;aGk=\x07", "\x1b[2J", "\x9b31m", "\x07", "\x08\x08", "\u202egnp", "\u2066", "\r", "\x7f"]


class TestEscapeSequences:
    @pytest.mark.reported("EONRaider/RootWire#53", "Growth-Circle/cadis#1723", "ggml-org/llama.cpp#28969")
    @pytest.mark.parametrize("escape", ESCAPES)
    def test_from_a_server_reach_no_terminal(self, escape: str) -> None:
        with served(answers({"error": {"message": f"bad {escape} request"}}, 400)) as server:
            options = ("--engine", "openai", "--url", server.base, "--model", "tiny")
            result = CliRunner().invoke(app, ["run", "2+2?", *options])
        assert result.exit_code == 1
        assert "bad" in result.stderr
        assert result.stderr.rstrip("\n").isprintable()

    @pytest.mark.parametrize("escape", ESCAPES)
    @pytest.mark.parametrize("status", [200, 400, 429, 502])
    def test_are_not_in_an_error_of_the_engine(self, escape: str, status: int) -> None:
        async def scene(engine: OpenAIEngine, _: ScriptedServer) -> None:
            for content in (f"bad {escape} thing", {"error": {"message": f"bad {escape} thing"}}):
                with pytest.raises(EngineError) as raised:
                    await complete(engine)
                assert str(raised.value).replace("\n", "").isprintable(), content

        text = answers(f"bad {escape} thing", status, content_type="text/html", retry_after="0")
        play([text, answers({"error": {"message": f"bad {escape} thing"}}, status)], scene, patience=0)

    @pytest.mark.parametrize("escape", ["\x1b]52;c;aGk=\x07", "\x1b[2J", "\x9b31m"])
    def test_from_an_inspected_file_reach_no_terminal(self, escape: str, tmp_path: Path) -> None:
        file = tmp_path / f"run{escape}.txt"
        file.write_text(f"a {escape} <Plan_1>{escape}<Plan_2></prompt_1.1>{escape}<Final_answer>{escape}", "utf-8")
        result = CliRunner().invoke(app, ["inspect", str(file)])
        assert result.exit_code == 0
        assert result.stdout.replace("\n", "").isprintable()

    @given(st.text())
    def test_are_in_no_error_line(self, text: str) -> None:
        assert error_line(SprintError(text)).isprintable()
