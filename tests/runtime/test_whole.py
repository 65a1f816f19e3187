"""Executors' completions may arrive whole where nothing reads them before their end."""

from collections.abc import AsyncGenerator

import pytest

from sprint_agents import Answer, Budget, Capabilities, Chunk, Plan, Request, Sprint
from sprint_agents.events import Event, InnerEvent
from sprint_agents.testing import FakeEngine, run_virtual


class Grouping(FakeEngine):
    """Delivers what may arrive whole in one chunk, and notes which requests of a run may."""

    def __init__(self, model):
        super().__init__(model)
        self.whole: dict[tuple[int, int | None], bool] = {}

    async def complete(self, request: Request) -> AsyncGenerator[Chunk]:
        self.whole[request.hints.stage, request.hints.branch] = request.whole
        chunks = [chunk async for chunk in super().complete(request)] if request.whole else super().complete(request)
        if isinstance(chunks, list):
            ids = [number for chunk in chunks for number in chunk.ids]
            yield Chunk(ids, "".join(chunk.text for chunk in chunks), chunks[-1].finish)
            return
        async for chunk in chunks:
            yield chunk


def run(model, **options):
    engine = Grouping(model(["first", "second"], execute=lambda *_: "some words, and a result\n"))
    return engine, run_virtual(Sprint(engine, **options).run("question"))


def test_executors_alone(model):
    engine, _ = run(model)
    assert engine.whole == {(1, None): False, (1, 1): True, (1, 2): True, (2, None): False}


def test_also_the_one_whose_first_token_others_wait_for(model):
    class Serving(Grouping):
        capabilities = Capabilities(caches_running=False, caches_contexts=True)

    async def plans(planning):
        yield Plan.of("first", "second")
        yield Answer(value="done")

    engine = Serving(model(["first", "second"]))
    run_virtual(Sprint(engine, policy=plans).run("question"))
    assert [*engine.whole.values()] == [True, True]


async def accepts_the_first(planning):
    stage = yield planning.ask(accept=lambda execution: True)
    assert stage.accepted
    yield Answer(value="done")


class Counting:
    """A listener that needs no pieces of text."""

    texts = False

    def __init__(self) -> None:
        self.kinds: set[str] = set()

    def __call__(self, event: Event) -> None:
        inner = event
        while isinstance(inner, InnerEvent):
            inner = inner.event
        self.kinds.add(inner.kind)


def test_where_listeners_need_no_pieces(model):
    counting = Counting()
    engine, _ = run(model, listeners=[counting])
    assert engine.whole[1, 1]
    assert {"subtask_started", "execution_finished", "run_finished"} <= counting.kinds
    assert not counting.kinds & {"planner_wrote", "executor_wrote"}


def test_a_listener_without_pieces_beside_one_with_them(model):
    counting, heard = Counting(), []
    inner = Grouping(model(["third"]))
    run(model, listeners=[counting, heard.append], executor=Sprint(inner))
    assert inner.whole
    assert not any(inner.whole.values())
    assert "planner_wrote" in {event.kind for event in heard if not isinstance(event, InnerEvent)}
    assert any(isinstance(event, InnerEvent) and event.event.kind == "executor_wrote" for event in heard)
    assert not counting.kinds & {"planner_wrote", "executor_wrote"}


@pytest.mark.parametrize(
    "options",
    [
        {"listeners": [lambda event: None]},
        {"budget": Budget(tokens=1000)},
        {"policy": accepts_the_first},
    ],
)
def test_not_where_its_parts_count(model, options):
    engine, _ = run(model, **options)
    assert not any(engine.whole.values())


def test_the_same_tokens_are_tags(model):
    whole, streamed = (run(model, **options)[1] for options in ({}, {"listeners": [lambda event: None]}))
    assert whole.usage.sequential_tokens == streamed.usage.sequential_tokens
    for one, other in zip(whole.stages, streamed.stages, strict=True):
        assert [each.usage for each in one.executions] == [each.usage for each in other.executions]
