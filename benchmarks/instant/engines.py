"""Engines that answer at once, what they write, and the types of that."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Literal

from pydantic import BaseModel

from sprint_agents import Capabilities, Chunk, Engine, Finish, Request
from sprint_agents.testing import FakeEngine, Prompt, Reply


class Finding(BaseModel):
    """The typed result of a subtask."""

    name: str
    score: float


class Word(BaseModel):
    """The arguments of ``look_up``."""

    word: str


class Call(BaseModel):
    """A call of ``look_up``, as a model writes it."""

    tool: Literal["look_up"]
    arguments: Word


class Turn(BaseModel):
    """A turn that calls a tool."""

    call: list[Call]


class Result(BaseModel):
    """The last turn."""

    result: Finding


class Part(BaseModel):
    """A subtask, as a model writes it."""

    prompt: str


class Parts(BaseModel):
    """A plan, as a model writes it."""

    subtasks: list[Part]


class Report(BaseModel):
    """The typed answer of a run."""

    text: str


class Answered(BaseModel):
    """The turn of the planner that answers."""

    answer: Report


RESULT = '{"name": "a finding", "score": 0.5}'
ANSWER = "<Final_answer>done</Final_answer>"
CALL_TURN = '{"call": [{"tool": "look_up", "arguments": {"word": "part"}}]}'
RESULT_TURN = f'{{"result": {RESULT}}}'
LONG_RESULT = " ".join(["word"] * 86)
ANSWER_TURN = '{"answer": {"text": "done"}}'


def plan_turn(width: int) -> list[str]:
    """Return the pieces of a plan in JSON, each of which ends a subtask."""
    begin = ['{"subtasks": [', *[", "] * (width - 1)]
    parts = [f'{lead}{{"prompt": "look at part {number}"}}' for number, lead in enumerate(begin, 1)]
    return [*parts, "]}"]


class InstantEngine(Engine):
    """An engine that answers at once, or after ``delay`` seconds, and records nothing, so all cost is the library's.

    It plans ``width`` subtasks, answers each with ``RESULT``, and ends. One byte is one token.
    """

    name = "instant"
    manifest = None
    capabilities = Capabilities()

    def __init__(self, width: int, *, delay: float = 0.0) -> None:
        prompts = [f"<prompt_1.{n}>look at part {n}</prompt_1.{n}>" for n in range(1, width + 1)]
        self.plan = ["<Plan_1>", *prompts, "</Plan_1>"]
        self.result_ids = [*map(ord, RESULT)]
        self.delay = delay

    async def encode(self, text: str) -> list[int]:
        """Return the bytes of ``text``."""
        return [*text.encode()]

    async def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids``."""
        return bytes(ids).decode()

    async def complete(self, request: Request) -> AsyncGenerator[Chunk]:
        """Answer by what the context ends with."""
        await asyncio.sleep(self.delay)
        last = request.context.own_text
        finish = Finish("stop", None, len(request.context), len(request.context))
        if last.startswith("\n<execution_"):
            yield Chunk(self.result_ids, RESULT, finish)
        elif last.endswith("</Execution_1>\n"):
            yield Chunk([*map(ord, ANSWER)], ANSWER, finish)
        else:
            for piece in self.plan:
                yield Chunk([*map(ord, piece)], piece)
            yield Chunk([], "", finish)

    async def abort(self, request_id: str) -> None:
        """Do nothing: no request is left running."""

    async def aclose(self) -> None:
        """Do nothing."""


class JsonEngine(InstantEngine):
    """An engine that answers at once, or after ``delay`` seconds, in JSON."""

    def __init__(self, width: int, *, delay: float = 0.0) -> None:
        super().__init__(width, delay=delay)
        self.plan = plan_turn(width)
        self.result_ids, self.answer_ids = [*map(ord, RESULT_TURN)], [*map(ord, ANSWER_TURN)]

    async def complete(self, request: Request) -> AsyncGenerator[Chunk]:
        """Answer by what the context ends with."""
        await asyncio.sleep(self.delay)
        asked = request.context.own_text
        finish = Finish("stop", None, len(request.context), len(request.context))
        if "executor 1." in asked:
            yield Chunk(self.result_ids, RESULT_TURN, finish)
        elif "planner, stage 1" not in asked:
            yield Chunk(self.answer_ids, ANSWER_TURN, finish)
        else:
            for piece in self.plan:
                yield Chunk([*map(ord, piece)], piece)
            yield Chunk([], "", finish)


def scripted(width: int) -> FakeEngine:
    """Return the engine for tests, which answers as ``JsonEngine`` does."""
    plan = Reply("".join(plan_turn(width)))
    result, answer = Reply(RESULT_TURN), Reply(ANSWER_TURN)

    def model(prompt: Prompt) -> Reply:
        asked = prompt.tail(200)
        if asked.rfind("executor 1.") > asked.rfind("planner, stage"):
            return result
        return plan if "planner, stage 1" in asked else answer

    return FakeEngine(model)


class ToolEngine(InstantEngine):
    """An engine that answers at once: every executor calls a tool, then writes its result."""

    def __init__(self) -> None:
        super().__init__(0)
        self.replies = [([*map(ord, text)], text) for text in (CALL_TURN, RESULT_TURN)]

    async def complete(self, request: Request) -> AsyncGenerator[Chunk]:
        """Answer by what the context ends with."""
        await asyncio.sleep(0)
        told = "returned" in request.context.own_text
        ids, text = self.replies[told]
        yield Chunk(ids, text, Finish("stop", None, len(request.context), len(request.context)))
