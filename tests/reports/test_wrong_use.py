"""Wrong arguments are refused when they are given, with what to pass instead, whatever they are."""

import asyncio
import inspect
import math
import warnings
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal, get_type_hints

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from sprint_agents import (
    Answer,
    Budget,
    Executor,
    FailurePolicy,
    Limits,
    Plan,
    Planner,
    Planning,
    Sampling,
    Sprint,
    Subtask,
    Tool,
)
from sprint_agents.budget import Ledger
from sprint_agents.engine import Capabilities
from sprint_agents.engines import ChatTemplate, OpenAIEngine, SGLangEngine, SGLangServer
from sprint_agents.engines.openai import Server
from sprint_agents.errors import ConfigurationError, EngineUnavailable, PolicyError, SprintError
from sprint_agents.policies import (
    aggregation,
    as_needed,
    dag,
    first_success,
    fork_join_async,
    interleaved,
    limit_width,
    race,
    self_consistency,
    skeleton,
    spawn_join,
    tree_search,
    until,
    with_fallback,
)
from sprint_agents.runtime.options import RunOptions
from sprint_agents.testing import FakeEngine, Fault, Latency, Reply, run_virtual

PATTERNS = pytest.mark.reported("ggml-org/llama.cpp#26939", "existential-birds/daydream#304")
GENERATORS = pytest.mark.reported("pydantic/pydantic-ai#1560", "wanxingai/LightAgent#107")

URL = "http://127.0.0.1:9"


class Finding(BaseModel):
    title: str


class Lock:
    """A type that pydantic does not know."""


def plain(value=None):
    return "fine"


def named(side: str) -> str:
    """Look."""
    return side


async def waiting(value=None):
    return "fine"


def generates(value=None):
    yield 1


async def generates_async(value=None):
    yield 1


VALUES: list[Any] = [
    *(None, True, 0, 1, -1, 3, 10**30, 2.5, -0.5, math.nan, math.inf, 1j),
    *("", "x", "\ud83d", "tags", b"x", bytearray(b"x"), Path("x")),
    *([], [3], ["x"], (), (1, 2), {}, {"x": 1}, {3: 1}, {1}, range(3), iter([])),
    *(object(), Lock(), int, str, Finding, Lock, Finding(title="a"), SimpleNamespace(name="x"), ...),
    *(plain, named, waiting, generates, generates_async, lambda: 1, print, len, dag, interleaved, plain.__get__(3)),
    *(FakeEngine, Planner, Executor, Sprint, Limits, FakeEngine(""), Planner(int), Executor(int), Tool.of(named)),
    *(Limits(), Budget(), Sampling(), FailurePolicy(), Reply("x"), Fault.drop(), Latency(), ValueError("x"), asyncio),
]

MAKERS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "Sprint": (Sprint, {"engine": FakeEngine("")}),
    "Planner": (Planner, {}),
    "Executor": (Executor, {}),
    "Tool.of": (Tool.of, {"function": named}),
    "FakeEngine": (FakeEngine, {"replies": ""}),
    "Reply": (Reply, {"text": ""}),
    "OpenAIEngine": (OpenAIEngine, {"base_url": URL, "model": "m"}),
    "SGLangEngine": (SGLangEngine, {"url": URL}),
    "Sprint.map": (lambda **given: Sprint(FakeEngine("")).map(**given), {"tasks": ["x"]}),
    **{
        make.__name__: (make, {})
        for make in (aggregation, as_needed, dag, fork_join_async, self_consistency, skeleton, spawn_join, tree_search)
    },
    "limit_width": (limit_width, {"policy": interleaved, "width": 2}),
    "first_success": (first_success, {"policy": interleaved, "check": plain}),
    "race": (lambda policy=interleaved, **given: race(policy, **given), {}),
    "with_fallback": (lambda policy=interleaved, **given: with_fallback(policy, **given), {}),
    "until": (until, {"policy": interleaved, "check": plain}),
}
SIGNATURES = {"Sprint.map": Sprint.map, "race": race, "with_fallback": with_fallback}


def parameters(name: str) -> list[str]:
    make = SIGNATURES.get(name, MAKERS[name][0])
    found = inspect.signature(make).parameters.values()
    names = ["policy" if each.kind is inspect.Parameter.VAR_POSITIONAL else each.name for each in found]
    options = RunOptions.__annotations__ if "options" in names else ()
    return [each for each in (*names, *options) if each not in ("self", "given", "options", "deps")]


CASES = [(name, parameter) for name in MAKERS for parameter in parameters(name)]


def call(name: str, parameter: str, value: Any) -> Any:
    make, given = MAKERS[name]
    given = {**given, parameter: value}
    signature = inspect.signature(make).parameters
    positional = [
        each for each in given if each in signature and signature[each].kind is inspect.Parameter.POSITIONAL_ONLY
    ]
    return make(*[given.pop(each) for each in positional], **given)


def expected(name: str, parameter: str) -> Any:
    """The annotation of a parameter; None if it cannot be evaluated."""
    make = SIGNATURES.get(name, MAKERS[name][0])
    function = make.__init__ if isinstance(make, type) else inspect.unwrap(make)
    function = inspect.unwrap(function)
    annotations = function.__annotations__
    annotation = annotations.get(parameter, RunOptions.__annotations__.get(parameter, annotations.get("policies")))
    try:
        return get_type_hints(SimpleNamespace(__annotations__={"it": annotation}), globalns=function.__globals__)["it"]
    except (NameError, TypeError):
        return None


def is_of(value: Any, annotation: Any) -> bool:
    """Say whether pydantic, which is independent of the library's own rule, takes a value for one of a type."""
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(
            annotation, config=ConfigDict(arbitrary_types_allowed=True, strict=True)
        )
    except Exception:
        return True
    try:
        adapter.validate_python(value)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize(("name", "parameter"), CASES, ids=[f"{name}-{parameter}" for name, parameter in CASES])
def test_any_value_for_any_parameter(name: str, parameter: str) -> None:
    accepted, refused = [], []
    for value in VALUES:
        try:
            call(name, parameter, value)
        except ConfigurationError as error:
            message = str(error)
            assert len(message) > 20, message
            assert "\ud83d" not in message
            refused.append(value)
        else:
            accepted.append(value)
    assert refused or parameter in ("declared", "replies"), "a parameter that takes anything"
    annotation = expected(name, parameter)
    if annotation is not None and parameter not in ("tasks", "journals"):
        assert [value for value in accepted if not is_of(value, annotation)] == []


SETTINGS = [Limits, Budget, Sampling, FailurePolicy, Latency, Server, ChatTemplate, Subtask]


@pytest.mark.parametrize("settings", SETTINGS)
def test_settings_raise_the_error_of_pydantic(settings: type[BaseModel]) -> None:
    required = {"number": 1, "prompt": "go"} if settings is Subtask else {}
    for name in settings.model_fields:
        refused = 0
        for value in VALUES:
            try:
                settings(**{**required, name: value})
            except ValidationError as error:
                refused += error.errors()[0]["loc"][0] == name
        assert refused > len(VALUES) // 2
    with pytest.raises(ValidationError, match="Extra inputs"):
        settings(**required, unknown=1)


def test_every_settings_error_is_a_value_error_as_configuration_errors_are() -> None:
    assert issubclass(ValidationError, ValueError)
    assert issubclass(ConfigurationError, ValueError)


@pytest.mark.parametrize("option", ["text", "after", "width", "wait", "accept", "keep", "nested", "share", "prompts"])
def test_the_options_of_a_plan(option: str) -> None:
    refused = 0
    for value in VALUES:
        try:
            _ = Plan.of(value) if option == "prompts" else Plan.of("go", **{option: value})
        except (PolicyError, ValidationError):
            refused += 1
    assert refused > len(VALUES) // 4


@pytest.mark.parametrize("option", ["form", "width", "share", "stage", "policies", "unknown"])
def test_the_steps_of_a_policy(option: str) -> None:
    planning = Planning(task="t", limits=Limits(), ledger=Ledger(Budget()))
    refused = 0
    for value in VALUES:
        try:
            if option == "stage":
                planning.join(value)
            elif option == "policies":
                planning.attempt(value)
            else:
                planning.ask(**{option: value})
        except ValidationError:
            refused += 1
    assert refused > len(VALUES) // 4


class Unchecking:
    """Has all members of an engine but one."""

    name, manifest, capabilities = "unchecking", None, Capabilities()
    encode = decode = complete = abort = end_run = aclose = lambda self: None


class TestMessages:
    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: Sprint(FakeEngine), r"engine= of Sprint is the class FakeEngine: make one, FakeEngine\(…\)"),
            (lambda: Sprint("http://x"), "engine= of Sprint is of type str: pass an Engine"),
            (lambda: Sprint(Unchecking()), "of type Unchecking: it lacks check_schema, so inherit from Engine, which"),
            (
                lambda: Sprint(FakeEngine(""), policy=dag),
                r"policy= of Sprint is dag, which makes policies: call it, dag",
            ),
            (
                lambda: Sprint(FakeEngine(""), policy=waiting),
                "is waiting, and a policy is an async generator.*not yield",
            ),
            (
                lambda: Sprint(FakeEngine(""), policy=generates),
                "is generates.*this one is not async: write it as `async",
            ),
            (
                lambda: Sprint(FakeEngine(""), planner=int),
                "planner= of Sprint is the class int: pass a Planner or None",
            ),
            (lambda: Sprint(FakeEngine(""), executor=Finding), r"is the class Finding: .* pass Executor\(Finding\)"),
            (lambda: Sprint(FakeEngine(""), executor=generates), "executor= of Sprint is a generator function"),
            (lambda: Sprint(FakeEngine(""), failure="ignore"), "is 'ignore': pass a FailurePolicy, 'fail_fast', 'coll"),
            (lambda: Sprint(FakeEngine(""), limits={"stages": 3}), "limits= of Sprint is of type dict: pass a Limits"),
            (lambda: Planner(int, attempts=0), "attempts is 0: it must be at least 1"),
            (lambda: Planner(int, attempts="2"), "attempts= of Planner is of type str: pass an int"),
            (
                lambda: Executor(tools=named),
                "tools= of Executor is of type function: pass a list whose items are each a T",
            ),
            (lambda: Executor(tools=[3]), "tools= of Executor has an item of another type: pass a list"),
            (lambda: Executor(instructions="\ud83d"), "instructions= of Executor has half of a surrogate pair"),
            (lambda: Executor(max_tokens=0), "max_tokens is 0: it must be at least 1"),
            (lambda: Executor(tool_timeout=math.nan), "tool_timeout= of Executor is nan: pass a float"),
            (lambda: Executor(plain), "plain cannot be a result, since it is a function: .* as executor="),
            (lambda: FakeEngine(3), "replies are of type int: pass a text, a Reply, a function, a list or a dict"),
            (lambda: FakeEngine(["x", 3]), "replies are of type int"),
            (lambda: FakeEngine(generates), "a reply function is a generator function"),
            (lambda: Reply(3), "text of a Reply is 3: pass a str"),
            (lambda: spawn_join(share=2), "share is 2: it is a share, more than 0 and at most 1"),
            (lambda: race(interleaved, dag), "policies= of race is dag, which makes policies"),
            (lambda: until(interleaved, check=True), "check= of until is True: pass a function"),
            (lambda: SGLangEngine(URL, max_connections=0), "max_connections is 0: it must be at least 1"),
            (lambda: SGLangEngine(URL, read_timeout=0), "read_timeout is 0: it must be more than 0"),
            (lambda: OpenAIEngine(URL, model="m", server="mistral"), "server= of OpenAIEngine is 'mistral': pass a S"),
            (
                lambda: OpenAIEngine(URL, model="m", extra=[1]),
                "extra= of OpenAIEngine is of type list: pass a dict whose",
            ),
            (lambda: SGLangServer("x", port=-1), "port is -1: it must be at least 0"),
            (lambda: Plan.of("a", after={1: 2}), "after= maps a subtask's number to a list"),
        ],
    )
    def test_say_what_to_pass(self, make: Callable[[], object], message: str) -> None:
        with pytest.raises((ConfigurationError, PolicyError), match=message):
            make()

    @pytest.mark.parametrize("make", [SGLangEngine, lambda url, **given: OpenAIEngine(url, model="m", **given)])
    def test_never_show_a_key(self, make: Any) -> None:
        for key in (b"sk-hunter2", ["sk-hunter2"], {"key": "sk-hunter2"}, SimpleNamespace(key="sk-hunter2")):
            with pytest.raises(ConfigurationError) as caught:
                make(URL, api_key=key)
            assert "hunter2" not in str(caught.value)

    def test_a_coroutine_is_to_be_awaited(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(ConfigurationError, match="is of type coroutine: await it first"):
                Sprint(FakeEngine(""), executor=waiting())

    def test_what_python_itself_says(self) -> None:
        with pytest.raises(TypeError, match="unexpected keyword argument 'tools'"):
            Planner(tools=[])  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'engine'"):
            Sprint()  # type: ignore[call-arg]


class TestEnginesOfYourOwn:
    def test_the_same_members_are_enough(self) -> None:
        class Proxy:
            def __init__(self, engine: FakeEngine) -> None:
                self.engine = engine

            def __getattr__(self, name: str) -> Any:
                return getattr(self.engine, name)

        engine: Any = Proxy(FakeEngine(r"<Final_answer>\boxed{4}</Final_answer>"))
        assert Sprint(engine).run_sync("go").answer == "4"

    def test_their_properties_are_not_evaluated(self) -> None:
        class Engine(FakeEngine):
            @property
            def capabilities(self) -> Any:
                raise AssertionError

        assert Sprint(Engine("")).engine


@PATTERNS
@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (Annotated[str, Field(pattern=r"^(?=.*\d)[a-z]+$")], "look-ahead.*is not supported.*python-re"),
        (Annotated[str, Field(pattern="(")], "unclosed group"),
        (Annotated[str, Field(pattern=r"(a{1,1000}){1,1000}")], "exceeds size limit"),
        (Annotated[str, Field(min_length=-1)], "negative"),
        (Annotated[int, Field(ge="x")], "'ge' must be coercible to an integer"),
        (Annotated[float, Field(multiple_of=0)], "greater than 0"),
        (Annotated[int | str, Field(discriminator="kind")], "discriminated union"),
        (Literal[()], "cannot be empty"),
        (list["Nowhere"], "is not fully defined"),  # type: ignore[name-defined]  # noqa: F821
        (AsyncIterator[int], "Unable to generate"),
        (Lock, "Lock"),
        ({}, "cannot be a result"),
        (3, "3 cannot be a result"),
    ],
)
def test_a_type_that_cannot_be_a_result(declared: Any, message: str) -> None:
    for agent in (Executor, Planner):
        with pytest.raises(ConfigurationError, match=message):
            agent(declared)


@PATTERNS
def test_a_type_that_cannot_be_a_parameter_of_a_tool() -> None:
    def tool(word: Annotated[str, Field(pattern=r"(?=x)")]) -> None: ...

    with pytest.raises(ConfigurationError, match=r"tool 'tool' has a type that models cannot write: .*look"):
        Tool.of(tool)


@PATTERNS
def test_a_type_whose_own_code_raises() -> None:
    class Broken:
        @classmethod
        def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
            raise RuntimeError("not today")

    class BrokenJson(int):
        @classmethod
        def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
            return handler(int)

        @classmethod
        def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> Mapping[str, Any]:
            raise RuntimeError("not today")

    for declared in (Broken, BrokenJson):
        with pytest.raises(ConfigurationError, match="not today"):
            Executor(declared)


class TestStreams:
    """``run`` that is not awaited is Python's own warning."""

    def test_without_a_block(self) -> None:
        sprint = Sprint(FakeEngine(r"<Final_answer>\boxed{4}</Final_answer>"))

        async def main() -> None:
            for stream in (sprint.stream("go"), sprint.map(["go"])):
                with pytest.raises(
                    ConfigurationError, match=r"is read inside its block, and it has no block: `async with"
                ):
                    async for _ in stream:
                        pass

        asyncio.run(main())

    def test_without_a_block_and_awaited(self) -> None:
        with pytest.raises(ValueError, match="a coroutine was expected"):
            asyncio.run(Sprint(FakeEngine("")).stream("go"))  # type: ignore[arg-type]

    def test_after_the_block(self) -> None:
        async def main() -> None:
            async with Sprint(FakeEngine(r"<Final_answer>\boxed{4}</Final_answer>")).stream("go") as events:
                assert [event async for event in events]
                assert [event async for event in events] == []
            with pytest.raises(ConfigurationError, match="its block has ended"):
                await anext(events)

        asyncio.run(main())

    def test_a_block_entered_twice(self) -> None:
        engine = FakeEngine(r"<Final_answer>\boxed{4}</Final_answer>")

        async def main() -> None:
            stream = Sprint(engine).stream("go")
            async with stream as events:
                _ = [event async for event in events]
            with pytest.raises(ConfigurationError, match="can be entered once: call the method"):
                async with stream:
                    pass

        asyncio.run(main())
        assert len(engine.requests) == 1

    def test_two_readers_at_once(self) -> None:
        """Each event goes to one of them, and both end."""

        async def main() -> list[int]:
            async with Sprint(FakeEngine(r"<Final_answer>\boxed{4}</Final_answer>")).stream("go") as events:

                async def read() -> int:
                    return len([event async for event in events])

                return list(await asyncio.gather(read(), read()))

        assert sum(run_virtual(main())) > 3

    def test_a_plain_loop_and_a_plain_block(self) -> None:
        stream = Sprint(FakeEngine("")).stream("go")
        with pytest.raises(TypeError, match="not iterable"):
            list(stream)  # type: ignore[call-overload]
        with pytest.raises((TypeError, AttributeError)), stream:  # type: ignore[attr-defined]
            pass


def test_a_run_on_a_closed_engine() -> None:
    async def main() -> None:
        async with FakeEngine("") as engine:
            pass
        with pytest.raises(EngineUnavailable, match="closed: make a new one") as caught:
            await Sprint(engine).run("go")
        assert caught.value.run is not None
        with pytest.raises(EngineUnavailable, match="closed"):
            await OpenAIEngine(URL, model="m").aclose() or await Sprint(closed).run("go")

    closed = OpenAIEngine(URL, model="m")
    asyncio.run(closed.aclose())
    asyncio.run(main())


async def one(planning: Planning) -> Any:
    stage = yield Plan.of("go")
    yield Answer(value=stage.results)


def test_an_error_of_a_step_names_the_policy() -> None:
    async def policy(planning: Planning) -> Any:
        yield planning.ask("poem")  # type: ignore[arg-type]

    with pytest.raises(PolicyError, match=r"raised after 0 stages, ValidationError[\s\S]*'chain' or 'answer'"):
        Sprint(FakeEngine(""), policy=policy).run_sync("go")


@GENERATORS
def test_functions_of_every_kind() -> None:
    """What can be called and gives one result is an executor, a checker and a tool."""
    from functools import partial, wraps

    class Looks:
        def __call__(self, side: str) -> str:
            """Look."""
            return "fine"

        async def wait(self, side: str) -> str:
            """Look."""
            return "fine"

        @staticmethod
        def static(side: str) -> str:
            """Look."""
            return "fine"

        @classmethod
        def of_class(cls, side: str) -> str:
            """Look."""
            return "fine"

    def two(times: int, side: str) -> str:
        """Look."""
        return "fine"

    @wraps(named)
    def wrapped(*args: Any, **kwargs: Any) -> str:
        return "fine"

    kinds: list[Any] = [Looks(), Looks().wait, Looks().__call__, Looks.static, Looks.of_class]
    kinds += [wrapped, partial(two, 3), partial(Looks().wait), named]
    for function in kinds:
        sprint = Sprint(FakeEngine(""), policy=one, executor=function, checker=function)
        assert sprint.run_sync("go").stages[0].results
        tool = Tool.of(function, name="look")
        assert list(TypeAdapter(dict[str, Any]).validate_json(tool.schema)["properties"]) == ["side"]
        outcome = run_virtual(tool.use('{"side": "left"}', seconds=9))
        assert not outcome.failed, outcome.text


@GENERATORS
def test_generators_of_every_kind_are_refused() -> None:
    from functools import partial

    class Yields:
        def __call__(self, side: str) -> Any:
            yield side

        async def wait(self, side: str) -> Any:
            yield side

    kinds: list[Any] = [
        generates,
        generates_async,
        partial(generates),
        partial(generates_async),
        Yields(),
        Yields().wait,
    ]
    for function in kinds:
        for make in (
            lambda function: Sprint(FakeEngine(""), executor=function),
            lambda function: Sprint(FakeEngine(""), checker=function),
            lambda function: Tool.of(function, name="tool"),
            lambda function: first_success(interleaved, function),
            lambda function: skeleton(merge=function),
        ):
            with pytest.raises(ConfigurationError, match=r"a generator function \(\w+\), and a call has one result"):
                make(function)


def test_errors_of_this_page_are_errors_of_the_library() -> None:
    assert issubclass(ConfigurationError, SprintError)
