"""The LLM extractor: its prompts, how answers are read, and what happens to bad ones."""

import asyncio
import json
from collections.abc import Sequence
from typing import Literal

import pytest

from sprint_agents import Capabilities
from sprint_agents.engine import ChatTurns
from sprint_agents.errors import EngineRejected
from sprint_agents.markup import parts_of
from sprint_agents.testing import FakeEngine, Fault
from sprint_finetune.curation import LLMExtractor, Rejection, Trace
from sprint_finetune.curation.records import Dag, Extraction

TRACE = Trace(id="t", problem="How {many}?", trace="Two cases.\nCase 1.\na {steps}\nCase 2.\nb\nSum.", answer="7")


def step(plan: object, execution: object = (), *, prompt: str = "", comments: object = ()) -> dict[str, object]:
    return {"plan": plan, "execution": execution, "comments": comments, "description": "d", "prompt": prompt}


STEPS = [
    step([[1, 1]]),
    step([[2, 2]], [[3, 3]], prompt="One."),
    step([[4, 4]], [[5, 5]], prompt="Two."),
    step([[6, 6]]),
]
PARENTS = [[], [1], [1], [2, 3]]


def steps_json(steps: Sequence[object]) -> str:
    return json.dumps({"steps": steps})


def dag_json(parents: Sequence[Sequence[int]]) -> str:
    return json.dumps({"parents": [{"step": step, "parents": named} for step, named in enumerate(parents, 1)]})


async def ask_steps(engine: FakeEngine) -> Extraction | Rejection:
    return await LLMExtractor(engine, max_tokens=500).steps(TRACE)


async def ask_dag(engine: FakeEngine) -> Dag | Rejection:
    extraction = await ask_steps(FakeEngine(steps_json(STEPS)))
    assert isinstance(extraction, Extraction)
    return await LLMExtractor(engine, max_tokens=500).dag(TRACE, extraction)


def test_good_answers_become_steps_and_a_graph() -> None:
    engine = FakeEngine([steps_json(STEPS)])
    extraction = asyncio.run(ask_steps(engine))
    assert isinstance(extraction, Extraction)
    assert [(step.number, step.plan, step.execution, step.prompt) for step in extraction.steps] == [
        (1, ((1, 1),), (), None),
        (2, ((2, 2),), ((3, 3),), "One."),
        (3, ((4, 4),), ((5, 5),), "Two."),
        (4, ((6, 6),), (), None),
    ]
    assert asyncio.run(ask_dag(FakeEngine([dag_json(PARENTS)]))) == Dag(id="t", parents=((), (1,), (1,), (2, 3)))


def test_the_prompt_has_the_problem_and_numbered_lines_and_what_is_filled_in_is_not_filled_again() -> None:
    seen: list[str] = []

    def answer(prompt) -> str:
        seen.append(prompt.text)
        return steps_json(STEPS)

    asyncio.run(ask_steps(FakeEngine(answer)))
    (prompt,) = seen
    assert "Problem:\nHow {many}?\n\nReasoning:\n1: Two cases.\n2: Case 1.\n3: a {steps}\n" in prompt


def test_steps_are_numbered_by_their_first_lines() -> None:
    extraction = asyncio.run(ask_steps(FakeEngine(steps_json([STEPS[2], STEPS[0], STEPS[3], STEPS[1]]))))
    assert isinstance(extraction, Extraction)
    assert [step.plan[0].first for step in extraction.steps] == [1, 2, 4, 6]
    assert [step.number for step in extraction.steps] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "wrapping",
    [
        "```json\n{}\n```",
        '<think>Is {{it}} {{"steps": []}}?</think>\nHere: {} Good luck!',
        "{}<|im_end|>",
        '{{"a": 1}}\n{}',
        '{}\nFor example, {{"steps": [{{"plan": [[1, 2]], "execution": [[3, 6]], "comments": [], "description": "…", '
        '"prompt": "…"}}]}} would be two steps in one.',
    ],
)
def test_json_is_found_in_other_words(wrapping: str) -> None:
    assert isinstance(asyncio.run(ask_steps(FakeEngine(wrapping.format(steps_json(STEPS))))), Extraction)


BAD_STEPS = [
    ("I cannot do that.", "not_json", "no JSON object"),
    ('{"steps": [{"plan": [[1, 2', "not_json", "cannot be read"),
    ('{"steps": 3}', "wrong_shape", "steps"),
    (steps_json([{**STEPS[0], "why": "so"}]), "wrong_shape", "why"),
    (steps_json([]), "uncovered", "there is no step"),
    (steps_json(STEPS[:3]), "uncovered", "in no step: 6"),
    (steps_json([*STEPS, step([[5, 6]])]), "overlap", "line 5 is in step 3 and in step 5"),
    (steps_json([step([[1, 6]], comments=[[2, 2]])]), "overlap", "the same step"),
    (steps_json([step([[1, 7]])]), "out_of_range", "lines 1 to 6"),
    (steps_json([step([[0, 6]])]), "out_of_range", "lines 1 to 6"),
    (steps_json([step([[6, 1]])]), "out_of_range", "lines 1 to 6"),
    (steps_json([step([[1, 6]]), step([])]), "empty_step", "neither plan nor execution"),
    (steps_json([step([], [[1, 6]])]), "no_prompt", "no prompt"),
]
BAD_DAGS = [
    ("none", "not_json", "no JSON object"),
    (dag_json([[], [3], [2], []]), "cycle", "in a circle: "),
    (dag_json([[1], [], [], []]), "cycle", "in a circle: 1, 1"),
    (dag_json([[], [3], [], []]), "later_parent", "step 2 names step 3"),
    (dag_json([[], [9], [], []]), "unknown_step", "no step 9"),
    (dag_json([[], [1], [1]]), "unknown_step", "step 4 is not listed"),
    (dag_json([[], [], [], []]), "unlinked", "no step has a parent"),
    (f"{dag_json([[], [1], [1], [2, 3]])} or {dag_json([[], [1], [2], [3]])}", "several_answers", "write only one"),
    ('{"parents": [{"step": 1, "parents": []}, {"step": 1, "parents": []}]}', "wrong_shape", "listed twice"),
]


@pytest.mark.parametrize(
    ("kind", "bad", "reason", "detail"),
    [*(("steps", *bad) for bad in BAD_STEPS), *(("dag", *bad) for bad in BAD_DAGS)],
)
def test_a_bad_answer_is_repaired_once_or_rejected_with_its_reason(
    kind: Literal["steps", "dag"], bad: str, reason: str, detail: str
) -> None:
    ask, good = (ask_steps, steps_json(STEPS)) if kind == "steps" else (ask_dag, dag_json(PARENTS))
    complaints: list[str] = []

    def repair(prompt) -> str:
        complaints.append(prompt.text)
        return good

    assert not isinstance(asyncio.run(ask(FakeEngine([bad, repair]))), Rejection)
    # The model is told the fault, in the same conversation.
    assert bad in complaints[0]
    assert detail in complaints[0].rpartition("That cannot be used: ")[2]
    engine = FakeEngine([bad, bad])
    rejection = asyncio.run(ask(engine))
    assert isinstance(rejection, Rejection)
    assert (rejection.id, rejection.stage, rejection.reason) == ("t", kind, reason)
    assert detail in rejection.detail
    assert engine.account().started == 2


def test_a_trace_that_the_model_cannot_read_is_rejected() -> None:
    rejection = asyncio.run(ask_steps(FakeEngine("", context_limit=50)))
    assert isinstance(rejection, Rejection)
    assert rejection.reason == "context_overflow"


def test_passing_troubles_are_tried_again_and_others_are_raised() -> None:
    assert isinstance(
        asyncio.run(ask_steps(FakeEngine(steps_json(STEPS), faults={1: Fault.drop(after=3)}))), Extraction
    )
    refusal = EngineRejected("no such model")
    with pytest.raises(EngineRejected, match="no such model"):
        asyncio.run(ask_steps(FakeEngine("", faults={1: Fault.error(refusal)})))


class ChatEngine(FakeEngine):
    """A chat model on a server that can constrain answers to a schema."""

    capabilities = Capabilities(
        chat=ChatTurns(
            opens={"system": "<s>", "user": "<u>", "assistant": "<a>"},
            closes={"system": "</s>", "user": "</u>", "assistant": "</a>"},
        ),
        schemas=True,
    )
    schemas: list[str | None]
    texts: list[str]

    async def encode(self, text):
        self.texts.append(text)
        return await super().encode(text)

    def complete(self, request):
        self.schemas.append(request.schema)
        return super().complete(request)


def test_a_chat_model_is_asked_in_turns_and_held_to_the_schema() -> None:
    seen: list[str] = []

    def answer(prompt) -> str:
        seen.append(prompt.text)
        return "none</a" if len(seen) == 1 else steps_json(STEPS)

    engine = ChatEngine(answer)
    engine.schemas, engine.texts = [], []
    assert isinstance(asyncio.run(ask_steps(engine)), Extraction)
    first, second = seen
    assert first.startswith("<u>You analyse")
    assert first.endswith("</u><a>")
    # The turns are the template's control tokens, and the same characters in a trace are not.
    assert [part.text for part in parts_of(engine.texts[0]) if part.is_markup] == ["<u>", "</u><a>"]
    # The model had started to close its turn; only the rest of the mark is added, then the next turn.
    assert second.startswith(f"{first}none</a><u>That cannot be used")
    assert second.endswith("</u><a>")
    assert all(schema and "execution" in schema for schema in engine.schemas)


def test_two_engines_share_the_work() -> None:
    large, small = FakeEngine([steps_json(STEPS)]), FakeEngine([dag_json(PARENTS)])
    extractor = LLMExtractor(large, dag_engine=small)

    async def both() -> object:
        extraction = await extractor.steps(TRACE)
        assert isinstance(extraction, Extraction)
        return await extractor.dag(TRACE, extraction)

    assert isinstance(asyncio.run(both()), Dag)
    assert extractor.name == "llm-2:fake:fake"
