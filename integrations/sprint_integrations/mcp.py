"""The Model Context Protocol, both ways: an MCP server's tools for executors, and a ``Sprint`` as an MCP server.

- ``async with tools_of("http://localhost:8000/mcp") as tools`` connects to a server; ``Executor(tools=tools)`` uses it.
- ``server_of(sprint)`` is a server of one tool, which runs a task and reports its progress.

Everything that a server sends is outside text: it reaches the model as a tool's description or result, in bounds.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import httpx2
from pydantic_core import from_json, to_json

from sprint_agents.engines.address import shown_url
from sprint_agents.errors import ConfigurationError, FunctionError, MissingExtra, SprintError, describe
from sprint_agents.events import Event, ExecutionFinished, RunFinished, StageStarted, SubtaskStarted
from sprint_agents.run import Run
from sprint_agents.sprint import Sprint
from sprint_agents.tools import Tool

try:
    from mcp import Client, types
    from mcp.server import Server, ServerRequestContext
except ModuleNotFoundError as error:
    raise MissingExtra("mcp", "mcp") from error

if TYPE_CHECKING:
    from mcp.client.stdio import StdioServerParameters

    ServerAddress = str | StdioServerParameters | Server[Any] | Client
    """A URL, a command to start, a server in this process, or a client with your own settings."""

MOST_TOOLS = 256
"""The tools that are taken from one server; one that lists more is refused."""

MOST_CHARACTERS = 100_000
"""The characters of a tool's result that a model reads; the rest is left out, and the text says so."""

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]+")


@asynccontextmanager
async def tools_of(
    server: "ServerAddress", *, prefix: str = "", only: Collection[str] | None = None, seconds: float = 30.0
) -> AsyncGenerator[list[Tool[..., Any]]]:
    """Connect to an MCP server, and yield its tools until the block ends.

    Args:
        server: a URL (streamable HTTP), the ``StdioServerParameters`` of a command, or a server in this process. For
            headers, authentication, sampling or elicitation pass a ``mcp.Client`` that has not been entered.
        prefix: what the names of the tools begin with, to tell the tools of several servers apart.
        only: the names of the tools to take, as the server has them; all by default.
        seconds: the most seconds for connecting and for the list of tools. A call has the executor's ``tool_timeout``.

    Raises:
        ConfigurationError: the server cannot be reached, or lists no usable tools; the message says which and why.
    """
    client = server if isinstance(server, Client) else Client(server)
    connecting, raised = True, None
    try:
        async with asyncio.timeout(seconds) as clock, client:
            tools = list(_chosen(client, await _listed(client), prefix=prefix, only=only))
            clock.reschedule(None)
            connecting = False
            try:
                yield tools
            except Exception as error:  # the client's task group would wrap it
                raised = error
        if raised is not None:
            raise raised
    except SprintError:
        raise
    except Exception as error:
        if not connecting:
            raise
        reason = (
            f"did not answer within {seconds:g} s" if isinstance(error, TimeoutError) else f"failed: {_cause(error)}"
        )
        raise ConfigurationError(
            f"the MCP server {_name_of(server)} {reason}. Check its address or command, and that it runs by itself"
        ) from error


async def _listed(client: Client) -> list[types.Tool]:
    found: list[types.Tool] = []
    cursor: str | None = None
    while True:
        page = await client.list_tools(cursor=cursor)
        found += page.tools
        if len(found) > MOST_TOOLS:
            raise ConfigurationError(
                f"the MCP server lists more than {MOST_TOOLS} tools: a model cannot choose from them"
            )
        cursor = page.next_cursor
        if not cursor or not page.tools:
            return found


def _chosen(
    client: Client, listed: list[types.Tool], *, prefix: str, only: Collection[str] | None
) -> Iterator[Tool[..., Any]]:
    known = [tool.name for tool in listed]
    if missing := sorted(set(only or ()) - {*known}):
        raise ConfigurationError(f"the MCP server has no tool {missing[0]!r}: use some of {', '.join(known) or 'none'}")
    for tool in listed:
        if only is None or tool.name in only:
            schema = {key: value for key, value in tool.input_schema.items() if key != "$schema"}
            yield Tool.from_schema(
                _NOT_IN_NAMES.sub("_", f"{prefix}{tool.name}")[:64],
                description=tool.description or "",
                schema=schema,
                function=_caller(client, tool.name),
            )


def _caller(client: Client, name: str) -> Callable[..., Awaitable[Any]]:
    async def call(**arguments: Any) -> Any:
        try:
            result = await client.call_tool(name, arguments)
        except Exception as error:
            raise FunctionError(f"the MCP server failed: {_cause(error)}") from error
        if result.is_error:
            raise FunctionError(_text(result.content) or "the tool failed and does not say why")
        if result.structured_content is not None:
            written = to_json(result.structured_content).decode()
            return result.structured_content if len(written) <= MOST_CHARACTERS else _shortened(written)
        return _text(result.content)

    return call


def _text(content: list[types.ContentBlock]) -> str:
    """Return the text of a result; a model reads of other content only what it is."""
    parts: list[str] = []
    for block in content:
        if isinstance(block, types.TextContent):
            parts.append(block.text)
        elif isinstance(block, types.EmbeddedResource) and isinstance(block.resource, types.TextResourceContents):
            parts.append(block.resource.text)
        elif isinstance(block, types.ResourceLink):
            parts.append(f"[resource {block.uri}]")
        else:
            parts.append(f"[{block.type}, which cannot be shown as text]")
    return _shortened("\n".join(parts))


def _shortened(text: str) -> str:
    left_out = len(text) - MOST_CHARACTERS
    return text if left_out <= 0 else f"{text[:MOST_CHARACTERS]}\n[{left_out:,} characters are left out]"


def _cause(error: BaseException) -> str:
    """Describe an error; of a group, as task groups raise them, its first one."""
    if isinstance(error, BaseExceptionGroup):
        return _cause(cast("BaseExceptionGroup[BaseException]", error).exceptions[0])
    if isinstance(error, httpx2.InvalidURL):  # it quotes what it takes for a port, which may be a part of a password
        return "the URL is not valid"
    return describe(error)


def _name_of(server: object) -> str:
    if isinstance(server, Client):
        server = server.server
    if isinstance(server, str):
        return shown_url(server)
    return str(getattr(server, "command", None) or getattr(server, "name", None) or type(server).__name__)


def server_of(
    sprint: Sprint[Any, Any],
    *,
    name: str = "solve",
    description: str = "Plan a task and solve its parts in parallel.",
    deps: object = None,
) -> Server[Any]:
    """Return an MCP server of one tool, which runs ``sprint`` on a task.

    The tool takes ``{"task": …}`` and returns ``{"answer": …}``, of the planner's type. A client that asks for progress
    gets a message for each subtask that starts or ends. A request that is cancelled, or whose client leaves, cancels
    its run. A run that fails is a result with ``is_error``, in which the model reads why. Each run has ``deps``, which
    your functions read as ``RunContext.deps``.

    >>> from sprint_agents.testing import FakeEngine
    >>> server = server_of(Sprint(FakeEngine({"planner": "42"})))
    >>> server.name
    'sprint-agents'
    """
    answer: dict[str, Any] = from_json(sprint.planner.schema) if sprint.planner.schema else {"type": "string"}
    definitions = answer.pop("$defs", None)
    output: dict[str, Any] = {"type": "object", "properties": {"answer": answer}, "required": ["answer"]}
    if definitions:
        output["$defs"] = definitions
    task = {"type": "string", "description": "The task, in words."}
    tool = types.Tool(
        name=name,
        description=description,
        input_schema={"type": "object", "properties": {"task": task}, "required": ["task"]},
        output_schema=output,
    )

    async def list_tools(
        _: ServerRequestContext[Any], __: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[tool])

    async def call_tool(
        context: ServerRequestContext[Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        task = (params.arguments or {}).get("task")
        if params.name != name or not isinstance(task, str):
            return _failure(f'call {name} with {{"task": "…"}}')
        try:
            run = await _run(sprint, task, context, deps)
        except SprintError as error:
            return _failure(describe(error))
        value = {"answer": from_json(to_json(run.answer))}
        text = run.answer if isinstance(run.answer, str) else to_json(run.answer).decode()
        return types.CallToolResult(content=[types.TextContent(text=text)], structured_content=value)

    return Server("sprint-agents", on_list_tools=list_tools, on_call_tool=call_tool)


async def _run(sprint: Sprint[Any, Any], task: str, context: ServerRequestContext[Any], deps: object) -> Run[Any, Any]:
    done, finished = 0, None
    async with sprint.stream(task, deps=deps) as events:
        async for event in events:
            if message := _progress(event):
                done += 1
                await context.session.report_progress(done, message=message)
            if isinstance(event, RunFinished):
                finished = event.run
    assert finished is not None  # after the last event, a run that failed raises
    return finished


def _progress(event: Event) -> str:
    match event:
        case StageStarted():
            return f"stage {event.stage}"
        case SubtaskStarted():
            return f"subtask {event.stage}.{event.number} started"
        case ExecutionFinished(execution=execution):
            return f"subtask {event.stage}.{execution.number} {'failed' if execution.failure else 'finished'}"
        case _:
            return ""


def _failure(message: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=message)], is_error=True)
