"""Tools of real MCP servers, and a ``Sprint`` as a server, over stdio, HTTP and within a process."""

import asyncio
import sys
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from mcp import Client, types
from mcp.client.stdio import StdioServerParameters
from mcp.server import Server
from pydantic import BaseModel

from sprint_agents import Answer, Executor, Plan, Planner, Planning, RunContext, Sprint, Stage, Step, Subtask
from sprint_agents.errors import ConfigurationError
from sprint_agents.testing import FakeEngine, Prompt
from sprint_integrations.mcp import MOST_CHARACTERS, MOST_TOOLS, server_of, tools_of
from tests.integrations.served import served

PROGRAM = """
import os
from mcp.server import MCPServer

server = MCPServer("numbers", log_level="CRITICAL")

@server.tool()
def add(left: int, right: int) -> int:
    "Add two numbers."
    return left + right

@server.tool(name="end.now")
def end() -> str:
    "End the server."
    os._exit(1)

server.run("stdio")
"""
NUMBERS = StdioServerParameters(command=sys.executable, args=["-c", PROGRAM])


class Total(BaseModel):
    legs: int


def counting() -> Sprint[Total, str]:
    replies = {
        "planner, stage 1": '{"subtasks": ["Count.", "Count again."]}',
        "executor": '{"result": "4"}',
        "planner": '{"answer": {"legs": 8}}',
    }
    return Sprint(FakeEngine(replies), planner=Planner(Total), dialect="json")


def lying(**answers: Any) -> Server[Any]:
    """A server whose only tool, or list of tools, is what a test says."""

    async def list_tools(_: object, __: object) -> types.ListToolsResult:
        tool = types.Tool(name="look", input_schema={"type": "object"})
        return answers.get("listed") or types.ListToolsResult(tools=[tool])

    async def call_tool(_: object, __: object) -> types.CallToolResult:
        return answers["result"]

    return Server("lying", on_list_tools=list_tools, on_call_tool=call_tool)


async def used(server: Any, name: str = "look", arguments: str = "{}") -> tuple[str, bool]:
    async with tools_of(server) as tools:
        (tool,) = [tool for tool in tools if tool.name == name]
        outcome = await tool.use(arguments, seconds=10)
        return outcome.text, outcome.failed


class TestToolsOf:
    def test_a_program_over_stdio(self) -> None:
        replies = {
            "executor 1.1: the tools": '{"result": 5}',
            "executor": '{"call": [{"tool": "add", "arguments": {"left": 2, "right": 3}}]}',
            "planner, stage 1": '{"subtasks": ["2 + 3"]}',
            "planner": '{"answer": 5}',
        }

        async def main() -> None:
            async with tools_of(NUMBERS, only=["add"]) as tools:
                executor = Executor(int, tools=tools)
                run = await Sprint(FakeEngine(replies), planner=Planner(int), executor=executor, dialect="json").run(
                    "2+3"
                )
                (use,) = run.stages[0].executions[0].tool_uses
                assert (run.answer, use.text, use.failed) == (5, '{"result":5}', False)

        asyncio.run(main())

    def test_arguments_that_the_server_refuses_and_its_death_are_data(self) -> None:
        async def main() -> None:
            async with tools_of(NUMBERS, prefix="n_") as tools:
                add, end = tools
                assert (add.name, add.description, end.name) == ("n_add", "Add two numbers.", "n_end_now")
                wrong = await add.use('{"left": "two"}', seconds=10)
                assert wrong.failed
                assert "valid integer" in wrong.text
                for tool in (end, add):
                    dead = await tool.use('{"left": 1, "right": 2}', seconds=10)
                    assert dead.failed
                    assert "the MCP server failed" in dead.text

        asyncio.run(main())

    def test_an_error_in_the_block_is_raised_as_it_is(self) -> None:
        async def main() -> None:
            async with tools_of(lying()):
                raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            asyncio.run(main())

    @pytest.mark.parametrize(
        ("server", "reason"),
        [
            (StdioServerParameters(command="no-such-command"), "no-such-command failed: FileNotFoundError"),
            (StdioServerParameters(command=sys.executable, args=["-c", ""]), "Connection closed"),
            ("http://127.0.0.1:9/mcp?key=secret", "http://127.0.0.1:9/mcp failed: ConnectError"),
            ("http://me:secret@127.0.0.1:9/mcp", "http://127.0.0.1:9/mcp failed: ConnectError"),
            ("http://me:secret@[::/mcp", "the URL is not valid"),
            ("http://me:secret@host:secret/mcp", "the URL is not valid"),
        ],
    )
    def test_a_server_that_cannot_be_reached(self, server: Any, reason: str) -> None:
        with pytest.raises(ConfigurationError, match=reason) as caught:
            asyncio.run(used(server))
        assert "secret" not in str(caught.value)

    def test_a_server_that_never_lists(self) -> None:
        async def silent(_: object, __: object) -> types.ListToolsResult:
            return await asyncio.Future()

        async def main() -> None:
            async with tools_of(Server("silent", on_list_tools=silent), seconds=0.01):
                pass

        with pytest.raises(ConfigurationError, match=r"silent did not answer within 0\.01 s"):
            asyncio.run(main())

    def test_too_many_tools(self) -> None:
        tool = types.Tool(name="look", input_schema={"type": "object"})
        endless = types.ListToolsResult(tools=[tool], next_cursor="more")
        with pytest.raises(ConfigurationError, match=f"more than {MOST_TOOLS} tools"):
            asyncio.run(used(lying(listed=endless)))

    def test_a_tool_that_is_not_there(self) -> None:
        async def main() -> None:
            async with tools_of(lying(), only=["see"]):
                pass

        with pytest.raises(ConfigurationError, match="no tool 'see': use some of look"):
            asyncio.run(main())

    @pytest.mark.parametrize(
        ("content", "text"),
        [
            ([types.TextContent(text="<|im_end|>"), types.TextContent(text="b")], '"<|im_end|>\\nb"'),
            ([types.ImageContent(data="AA==", mime_type="image/png")], '"[image, which cannot be shown as text]"'),
            ([types.ResourceLink(uri="file:///a", name="a")], '"[resource file:///a]"'),
            ([types.EmbeddedResource(resource=types.TextResourceContents(uri="file:///a", text="A"))], '"A"'),
            ([], '""'),
        ],
    )
    def test_the_content_of_a_result(self, content: list[types.ContentBlock], text: str) -> None:
        assert asyncio.run(used(lying(result=types.CallToolResult(content=content)))) == (text, False)

    def test_a_result_is_bounded(self) -> None:
        content = [types.TextContent(text="x" * (MOST_CHARACTERS + 5))]
        text, _ = asyncio.run(used(lying(result=types.CallToolResult(content=content))))
        assert text.endswith('x\\n[5 characters are left out]"')
        structured = types.CallToolResult(content=[], structured_content={"x": "y" * MOST_CHARACTERS})
        assert "characters are left out" in asyncio.run(used(lying(result=structured)))[0]

    def test_an_error_without_words(self) -> None:
        result = types.CallToolResult(content=[], is_error=True)
        assert asyncio.run(used(lying(result=result))) == ('"the tool failed and does not say why"', True)


class TestServerOf:
    def test_answers_over_http(self) -> None:
        progress: list[str | None] = []

        async def heard(done: float, total: float | None, message: str | None) -> None:
            assert done == len(progress) + 1
            progress.append(message)

        async def main() -> None:
            server = server_of(counting()).streamable_http_app()
            async with served(server) as url, Client(f"{url}/mcp") as client:
                (tool,) = (await client.list_tools()).tools
                assert tool.output_schema is not None
                assert tool.output_schema["properties"]["answer"]["properties"] == {"legs": {"type": "integer"}}
                result = await client.call_tool("solve", {"task": "Legs?"}, progress_callback=heard)
                assert (result.structured_content, result.is_error) == ({"answer": {"legs": 8}}, False)

        asyncio.run(main())
        assert progress[:2] == ["stage 1", "subtask 1.1 started"]
        assert progress[-1] == "stage 2"

    def test_its_runs_have_the_deps(self) -> None:
        def count(context: RunContext[int], subtask: Subtask) -> int:
            return context.deps

        async def policy(planning: Planning) -> AsyncGenerator[Step, Stage[int]]:
            stage = yield Plan.of("Count.")
            yield Answer(value=str(stage.results[0]))

        server = server_of(Sprint(FakeEngine(""), policy=policy, executor=count), deps=6)
        assert asyncio.run(used(server, "solve", '{"task": "Legs?"}')) == ('{"answer":"6"}', False)

    def test_is_a_tool_of_another_sprint(self) -> None:
        assert asyncio.run(used(server_of(counting()), "solve", '{"task": "Legs?"}')) == (
            '{"answer":{"legs":8}}',
            False,
        )

    @pytest.mark.parametrize("arguments", ["{}", '{"task": 1}', '{"task": ""}'])
    def test_a_call_that_cannot_be_run_is_an_error_result(self, arguments: str) -> None:
        text, failed = asyncio.run(used(server_of(counting()), "solve", arguments))
        assert failed
        assert "task" in text

    def test_a_run_that_fails_is_an_error_result(self) -> None:
        text, failed = asyncio.run(
            used(server_of(Sprint(FakeEngine({"planner": ""}), dialect="json")), "solve", '{"task": "x"}')
        )
        assert failed
        assert "NoProgress" in text or "NoAnswer" in text

    def test_a_client_that_gives_up_ends_the_run(self) -> None:
        reached = asyncio.Event()

        async def wait(_: Prompt) -> str:
            reached.set()
            return await asyncio.Future()

        engine = FakeEngine({"planner": wait})

        async def main() -> None:
            async with Client(server_of(Sprint(engine, dialect="json"))) as client:
                call = asyncio.create_task(client.call_tool("solve", {"task": "Wait."}))
                await reached.wait()
                call.cancel()
                await asyncio.wait([call])
            assert engine.account().running == 0

        asyncio.run(main())
