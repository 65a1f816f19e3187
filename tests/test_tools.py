"""Tools: schemas from signatures, and turns in which an executor's model calls them."""

import asyncio
import threading
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field
from pydantic_core import from_json

from sprint_agents import Answer, Executor, Plan, Planner, Sprint
from sprint_agents.errors import ConfigurationError
from sprint_agents.events import ExecutionRetried, ToolCalled, ToolFinished
from sprint_agents.testing import FakeEngine, Fault, Reply, run_virtual
from sprint_agents.tools import Tool


class Place(BaseModel):
    name: str
    height: float = 0.0


async def search(
    query: Annotated[str, Field(description="words to look for")], limit: int = 5, near: Place | None = None
) -> list[str]:
    """Search the library."""
    return [query] * limit


def use(tool: Any, arguments: str, *, seconds: float = 60.0) -> Any:
    return run_virtual((tool if isinstance(tool, Tool) else Tool.of(tool)).use(arguments, seconds=seconds))


# A tool by itself.


def test_the_signature_is_the_schema_and_the_docstring_the_description():
    brief = Tool.of(search).brief
    assert (brief.name, brief.description) == ("search", "Search the library.")
    schema = from_json(brief.schema)
    assert schema["required"] == ["query"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["query"] == {"description": "words to look for", "type": "string"}
    assert schema["properties"]["limit"] == {"default": 5, "type": "integer"}
    assert schema["$defs"]["Place"]["required"] == ["name"]


def test_a_decorated_function_can_still_be_called():
    @Tool.of
    def double(number: int) -> int:
        return 2 * number

    assert double(4) == 8
    assert use(double, '{"number": 4}').text == "8"


def test_names_that_pydantic_uses_itself_are_fine():
    def odd(json: str, schema: int, _private: bool = False, model_config: str = "") -> list[Any]:
        return [json, schema, _private, model_config]

    assert use(odd, '{"json": "a", "schema": 1, "_private": true, "model_config": "x"}').text == '["a",1,true,"x"]'


class Shelf:
    def __init__(self) -> None:
        self.books = ["one", "two"]

    def count(self) -> int:
        return len(self.books)

    async def __call__(self, number: int) -> str:
        return self.books[number]


def test_methods_and_callable_objects_are_tools():
    shelf = Shelf()
    assert use(shelf.count, "{}").text == "2"
    assert use(Tool.of(shelf, name="book"), '{"number": 1}').text == '"two"'


def test_arguments_are_validated_as_their_types():
    def height(place: Place) -> float:
        return place.height

    assert use(height, '{"place": {"name": "a", "height": 2}}').text == "2.0"
    assert use(height, '{"place": {"height": "tall"}, "fast": true}').text == (
        '"the arguments are wrong: place.name: Field required; place.height: Input should be a valid number, unable to '
        'parse string as a number; fast: Extra inputs are not permitted"'
    )
    assert "Invalid JSON" in use(height, "place").text


def no_annotation(query, limit: int = 3) -> None: ...
def any_number(*queries: str) -> None: ...
def any_name(**queries: str) -> None: ...
def by_place(query: str, /) -> None: ...
def a_lock(lock: threading.Thread) -> None: ...
def a_function(key: str, then: Callable[[int], int]) -> None: ...
def unknown(query: "Nowhere") -> None: ...  # noqa: F821 # pyright: ignore[reportUndefinedVariable]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (no_annotation, r"parameter 'query' of tool 'no_annotation' has no annotation.*write `query: str`"),
        (any_number, r"parameter 'queries' of tool 'any_number' is variadic positional.*declare each on its own"),
        (any_name, r"parameter 'queries' of tool 'any_name' is variadic keyword"),
        (by_place, r"parameter 'query' of tool 'by_place' is positional-only, and models pass arguments by name"),
        (a_lock, r"a parameter of tool 'a_lock' has a type that models cannot write: .*Thread.*Use a pydantic model"),
        (a_function, r"tool 'a_function' holds what JSON cannot: .*such as int or list"),
        (unknown, r"the signature of tool 'unknown' cannot be read \(name 'Nowhere' is not defined\)"),
        (lambda: 1, r"'<lambda>' is no name for a tool: .*Tool\.of\(f, name='find'\)"),
    ],
)
def test_a_function_that_no_model_can_call_is_told_how(function: Any, message: str):
    with pytest.raises(ConfigurationError, match=message):
        Executor(tools=[function])


def test_two_tools_of_one_name_are_a_mistake():
    with pytest.raises(ConfigurationError, match=r"two tools are named 'search'.*rename one with Tool\.of"):
        Executor(tools=[search, search])
    assert list(Executor(tools=[search, Tool.of(search, name="look_up")]).tools) == ["search", "look_up"]


def test_what_goes_wrong_in_a_tool_is_its_outcome():
    async def slow() -> None:
        await asyncio.sleep(100)

    async def own_timeout() -> None:
        raise TimeoutError("the library is closed")

    async def gives_up() -> None:
        raise asyncio.CancelledError("no more")

    def thread() -> threading.Thread:
        return threading.current_thread()

    assert use(slow, "{}", seconds=30).text == '"it took longer than 30 s"'
    assert use(Tool.of(slow, seconds=200.0), "{}", seconds=30).text == "null"
    assert use(own_timeout, "{}").text == '"TimeoutError: the library is closed"'
    assert use(gives_up, "{}").text == '"it was cancelled: no more"'
    assert use(thread, "{}").text.startswith('"it returned a value that JSON cannot hold: ')
    assert all(use(tool, "{}", seconds=30).failed for tool in (slow, own_timeout, gives_up, thread))


def test_sync_functions_run_in_threads_and_do_not_hold_up_the_loop():
    barrier = threading.Barrier(2, timeout=60)

    def meet() -> bool:
        barrier.wait()  # passes only if another call is under way at the same time
        return threading.current_thread() is not threading.main_thread()

    async def main():
        tool = Tool.of(meet)
        return await asyncio.gather(tool.use("{}", seconds=60), tool.use("{}", seconds=60))

    assert [outcome.text for outcome in asyncio.run(main())] == ["true", "true"]


# In a run.

PLAN = '{"subtasks": [{"prompt": "look it up"}]}'


def calls(*wanted: tuple[str, str]) -> str:
    listed = ", ".join(f'{{"tool": "{tool}", "arguments": {arguments}}}' for tool, arguments in wanted)
    return f'{{"call": [{listed}]}}'


async def one_subtask(planning):
    stage = yield Plan.of("look it up")
    yield Answer(value=stage.results)


def run(
    *turns: str | Reply,
    tools: Any = (search,),
    events: list[Any] | None = None,
    failure: Any = "collect",
    **options: Any,
):
    """Run one executor whose model takes these turns; return the run and its engine."""
    engine = FakeEngine(list(turns))

    async def main():
        executor = Executor(list[str], tools=tools, **options)
        planner = Planner(list[list[str]])
        sprint = Sprint(engine, policy=one_subtask, executor=executor, planner=planner, dialect="json", failure=failure)
        async with sprint.stream("question") as stream:
            heard = [event async for event in stream]
        if events is not None:
            events.extend(heard)
        return heard[-1].run

    return run_virtual(main()), engine


def test_a_model_calls_a_tool_and_gives_a_result():
    events: list[Any] = []
    done, engine = run(calls(("search", '{"query": "a", "limit": 2}')), '{"result": ["a", "b"]}', events=events)
    assert done.answer == [["a", "b"]]
    execution = done.stages[0].executions[0]
    (used,) = execution.tool_uses
    assert (used.tool, used.text, used.failed) == ("search", '["a","a"]', False)
    assert from_json(used.arguments) == {"query": "a", "limit": 2}
    assert '"call": [{"tool": "search"' in execution.transcript
    assert execution.transcript.endswith('{"result": ["a", "b"]}')
    assert (done.usage.tool_calls, done.usage.calls, done.usage.retries) == (1, 2, 0)
    assert execution.usage.tool_calls == 1
    assert done.usage.total_tokens == engine.account().generated_tokens
    # The planner reads only the result.
    assert '{"result": ["a", "b"]}' in done.transcript
    assert '"call": [{"tool": "search"' not in done.transcript
    called, finished = (event for event in events if isinstance(event, ToolCalled | ToolFinished))
    assert (called.stage, called.number, called.call, called.tool) == (1, 1, 1, "search")
    assert (finished.call, finished.text, finished.failed) == (1, '["a","a"]', False)


def test_a_second_turn_goes_on_over_the_same_tokens():
    _, engine = run(calls(("search", '{"query": "a"}')), '{"result": []}')
    first, second = engine.requests
    before = first.request.context.flatten()
    assert second.request.context.flatten()[: len(before)] == before
    assert second.cached_tokens >= len(before) + first.generated_tokens - 1
    told = second.request.context.text.removeprefix(first.request.context.text)
    assert '"result": ["a","a","a","a","a"]' in told.replace(", ", ",").replace('"result":[', '"result": [')


def test_several_calls_of_one_turn_run_at_the_same_time_and_are_told_in_order():
    async def wait(seconds: int) -> str:
        await asyncio.sleep(seconds)
        return f"after {seconds}"

    done, engine = run(
        calls(*(("wait", f'{{"seconds": {seconds}}}') for seconds in (9, 3, 6))), '{"result": []}', tools=[wait]
    )
    assert done.usage.seconds == pytest.approx(9)
    assert [used.text for used in done.stages[0].executions[0].tool_uses] == ['"after 9"', '"after 3"', '"after 6"']
    assert [used.seconds for used in done.stages[0].executions[0].tool_uses] == pytest.approx([9, 3, 6])
    told = engine.requests[1].request.context.text
    assert told.index("after 9") < told.index("after 3") < told.index("after 6")


def test_errors_go_back_to_the_model_as_data():
    def broken(word: str) -> str:
        raise LookupError(f"no {word}")

    async def slow() -> None:
        await asyncio.sleep(1000)

    wanted = [("broken", '{"word": "key"}'), ("slow", "{}"), ("slow", '{"now": 1}'), ("nowhere", "{}")]
    done, engine = run(calls(*wanted), '{"result": []}', tools=[broken, slow], tool_timeout=5.0)
    execution = done.stages[0].executions[0]
    assert execution.succeeded
    assert [from_json(used.text) for used in execution.tool_uses] == [
        "LookupError: no key",
        "it took longer than 5 s",
        "the arguments are wrong: now: Extra inputs are not permitted",
        "there is no tool 'nowhere': use one of broken, slow",
    ]
    assert all(used.failed for used in execution.tool_uses)
    told = engine.requests[1].request.context.text
    assert "LookupError: no key" in told
    assert "use one of broken, slow" in told
    assert done.usage.tool_calls == 4
    assert done.usage.seconds == pytest.approx(5)


def test_turns_with_tools_are_bounded():
    events: list[Any] = []
    more = calls(("search", '{"query": "a"}'))
    done, engine = run(more, more, more, '{"result": ["a"]}', tool_turns=2, events=events)
    assert done.answer == [["a"]]
    assert done.usage.tool_calls == 2
    (retried,) = [event for event in events if isinstance(event, ExecutionRetried)]
    assert retried.reason == "all 2 turns that may call tools are used up: give the result"
    assert "are used up: give the result" in engine.requests[3].request.context.text
    done, engine = run(*[more] * 9, tool_turns=2, attempts=1)
    (execution,) = done.stages[0].failures
    assert execution.failure.type == "InvalidResult"
    assert execution.text == more
    assert len(execution.tool_uses) == 2
    assert engine.account().started == 3


def test_without_tools_a_call_is_no_result():
    done, engine = run(calls(("search", "{}")), '{"result": ["a"]}', tools=())
    assert done.answer == [["a"]]
    assert (done.usage.retries, done.usage.tool_calls) == (1, 0)
    assert "it is no list[str]" in engine.requests[1].request.context.text


def test_a_request_that_fails_between_tools_is_sent_again_without_calling_them_again():
    counted = []

    def count() -> int:
        counted.append(1)
        return len(counted)

    lost = Reply('{"result": []}', fault=Fault.drop(after=1))
    done, engine = run(calls(("count", "{}")), lost, '{"result": ["a"]}', tools=[count], failure="retry")
    assert done.answer == [["a"]]
    assert counted == [1]
    assert done.usage.retries == 1
    assert engine.requests[1].request.context.flatten() == engine.requests[2].request.context.flatten()


def test_a_wrong_result_after_tools_is_corrected_with_all_that_was_found():
    turns = [calls(("search", '{"query": "a", "limit": 1}')), '{"result": "a"}', '{"result": ["a"]}']
    done, engine = run(*turns)
    assert done.answer == [["a"]]
    assert (done.usage.retries, done.usage.tool_calls) == (1, 1)
    text = engine.requests[2].request.context.text
    assert text.startswith(engine.requests[1].request.context.text + '{"result": "a"}')
    assert "it is no list[str]: Input should be a valid" in text


def test_leaving_a_run_cancels_its_tools():
    left = []

    async def forever() -> None:
        try:
            await asyncio.sleep(10**6)
        finally:
            left.append(True)

    engine = FakeEngine([calls(("forever", "{}"), ("forever", "{}"))])

    async def leave():
        executor = Executor(tools=[forever], tool_timeout=10.0**7)
        async with Sprint(engine, policy=one_subtask, executor=executor, dialect="json").stream("question") as events:
            async for event in events:
                if isinstance(event, ToolCalled) and event.call == 2:
                    break
            await asyncio.sleep(1)

    run_virtual(leave())
    assert left == [True, True]


def test_between_tags_there_are_no_tools():
    with pytest.raises(ConfigurationError, match=r"tools need the json dialect.* call search: use"):
        Sprint(FakeEngine("x"), executor=Executor(tools=[search]))
    with pytest.raises(ConfigurationError, match="tools need the json dialect"):
        Sprint(FakeEngine("x"), executor=Executor(tools=[search]), dialect="tags")


def test_the_model_is_told_of_the_tools_before_the_task():
    _, engine = run('{"result": []}')
    system = engine.requests[0].request.context.text.split("question")[0]
    assert "search" in system
    assert "Search the library." in system
    assert "words to look for" in system


CITY = {"type": "object", "properties": {"city-name": {"type": "string"}}, "required": ["city-name"]}


class TestFromASchema:
    def weather(self, function: Callable[..., object]) -> Tool[..., object]:
        return Tool.from_schema("weather", description="Tell the weather.", schema=CITY, function=function)

    @pytest.mark.parametrize("asynchronous", [True, False])
    def test_the_function_gets_the_members_as_keywords(self, asynchronous: bool) -> None:
        async def tell(**arguments: str) -> str:
            return arguments["city-name"]

        tool = self.weather(tell if asynchronous else lambda **arguments: arguments["city-name"])
        outcome = asyncio.run(tool.use('{"city-name": "Bergen"}', seconds=1))
        assert (outcome.text, outcome.failed) == ('"Bergen"', False)
        assert from_json(tool.schema) == CITY

    @pytest.mark.parametrize("arguments", ["[1]", "{", '{"other": 1}'])
    def test_what_it_cannot_use_is_data(self, arguments: str) -> None:
        tool = self.weather(lambda **given: given["city-name"])
        assert asyncio.run(tool.use(arguments, seconds=1)).failed

    @pytest.mark.parametrize(
        ("name", "schema", "reason"),
        [
            ("the weather", CITY, "no name for a tool"),
            ("weather", {"type": "string"}, "not that of an object"),
            ("weather", {"type": "object", "default": object()}, "is not JSON"),
        ],
    )
    def test_a_mistake_says_what_to_do(self, name: str, schema: dict[str, object], reason: str) -> None:
        with pytest.raises(ConfigurationError, match=reason):
            Tool.from_schema(name, description="", schema=schema, function=print)
