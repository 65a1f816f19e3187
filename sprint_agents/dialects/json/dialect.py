"""Plans and results as JSON, for any model that follows instructions; its words and keys are in ``json_v2.toml``.

Layout of a run, where ``|`` marks the end of a request, after which the runtime continues::

    system     how planner and executor write, what their types are, the tools; the same for every request
    user       the task
    user       planner, stage 1: …
    assistant  {"subtasks": [{"prompt": "…"}, {"prompt": "…"}]}|
    user       executor 1.1: …
    assistant  {"result": …}|                                        the ids that the executor generated
    user       executor 1.2: …
    assistant  {"result": …}|
    user       planner, stage 2: …
    assistant  {"answer": …}|

An executor reads the planner's turn up to the end of its subtask's object, and then a turn of the user that asks for
this subtask. Only this suffix depends on the role, so all requests share the prefix.
"""

import re
from collections.abc import Mapping, Sequence

from pydantic_core import from_json

from sprint_agents.dialects.base import AgentBrief, Constraints, Form, JoinedExecution, Role, ToolOutcome
from sprint_agents.dialects.completions import Turn
from sprint_agents.dialects.conversation import NO_THOUGHTS, marks_in
from sprint_agents.engine import THOUGHTS, ChatTurns, Speaker
from sprint_agents.errors import escape_surrogates
from sprint_agents.markup import PromptTemplate, PromptText, compose, markup

from .example import Example
from .plans import JsonPlanReader
from .results import read_turn
from .schema import answer_schema, execution_schema, plan_schema
from .shape import shape_of
from .values import without_marks, write
from .words import JsonWords, fill, load_words

_SPEAKERS: tuple[Speaker, ...] = ("system", "user", "assistant")
_JSON_BEGINS = ("", "{", "[", '"')
_GAP = "\0"
"""Where the number of a subtask is filled in; no text of a dialect has this character."""
_MOST_QUESTIONS = 64
_LONGEST_PROSE = 300
"""Characters; a conclusion comes last."""

PLAIN_TURNS = ChatTurns(
    opens={name: f"<|{name}|>\n" for name in _SPEAKERS}, closes=dict.fromkeys(_SPEAKERS, "<|end|>\n")
)
"""The turns for engines without a chat template."""


class JsonDialect:
    r"""Plans and results as JSON in the turns of a conversation.

    Args:
        turns: the engine's turns.
        words: what the model reads, and the names of keys; the latest version by default.
        planner: the planner that the model is told of; see ``bind``.
        executor: the executor that it is told of; None if a program executes the subtasks.
        example: whether the model reads a short example conversation before the task, with values of the declared
            types. ``Sprint`` asks for one if an engine holds its model to no schema.

    >>> JsonDialect().write_plan(1, "", ["Add 1 and 2."])[0].splitlines()[-1]
    '{"subtasks": [{"prompt": "Add 1 and 2."}'
    """

    def __init__(
        self,
        turns: ChatTurns = PLAIN_TURNS,
        *,
        words: JsonWords | None = None,
        planner: AgentBrief | None = None,
        executor: AgentBrief | None = None,
        example: bool = False,
    ) -> None:
        self.turns = turns
        self.example = example
        self.words = words or load_words()
        self._planner = planner or AgentBrief()
        self._executor = executor
        self._calls = turns.calls if executor is not None and executor.tools else None
        self._close = turns.close("assistant")
        self._stop = self._close.strip()
        self._stops = (self._stop,) if self._stop else ()
        marks = marks_in([*turns.opens.values(), *turns.closes.values(), turns.calls or ""])
        # Marks that begin like special tokens are always escaped, see ``without_marks``.
        self._marks = tuple(mark for mark in marks if not mark.startswith("<|"))
        self._any_mark = re.compile("|".join(map(re.escape, ("<|", *self._marks))))
        self._user, self._assistant = turns.open("user"), turns.open("assistant")
        self._end = turns.close("user")
        self._answering = self._end + self._assistant
        # The turns that ask for the executions of a stage differ only in the subtask's number.
        self._questions: dict[tuple[str, int, str], PromptTemplate] = {}
        # A turn that is not the model's own has no thoughts.
        self._thought = NO_THOUGHTS if turns.thoughts == "open" else ""
        words, keys = self.words, self.words.keys
        self._tool, self._result, self._failed = (
            self._written(names[0]) for names in (keys.tool, keys.result, keys.failed)
        )
        self._shapes = {
            "answer": shape_of(self._planner.schema),
            "result": shape_of(executor.schema if executor is not None else None),
        }
        result = executor.schema if executor is not None else None
        self._shown = Example.of(self.words, answer=self._planner.schema, result=result) if example else None
        self._before_task = self._write_system()
        schemas: Mapping[Role, str | None] = {
            "plan": plan_schema(words, self._planner, executor),
            "graph": plan_schema(words, self._planner, executor, graph=True),
            "answer": answer_schema(words, self._planner),
            "execution": None if executor is None else execution_schema(words, executor, calls=self._calls is None),
        }
        # An engine with its own turns for calls gets the tools itself; otherwise the system's turn describes them.
        tools = executor.tools if self._calls is not None and executor is not None else ()
        self._constraints: dict[Role, Constraints] = {
            role: Constraints(
                stops=self._stops,
                schema=schema,
                tools=tools,
                thoughts=turns.thoughts,
                drops_thoughts=turns.drops_thoughts,
            )
            for role, schema in schemas.items()
        }

    def bind(self, planner: AgentBrief, executor: AgentBrief | None) -> "JsonDialect":
        """Tell the model of these agents."""
        return JsonDialect(self.turns, words=self.words, planner=planner, executor=executor, example=self.example)

    def constraints(self, role: Role) -> Constraints:
        """Stop at the end of the turn, and hold it to the schema of its role."""
        return self._constraints[role]

    def write_task(self, task: str) -> str:
        """Describe both roles in the system's turn, and write the task into the user's."""
        return compose([self._before_task, task, self._end, self._ready() if self.turns.alternate else ""])

    def write_message(self, text: str, *, task: bool = False) -> str:
        """Write a turn of the user."""
        return compose([self._said(text), self._ready() if self.turns.alternate else ""])

    def write_opening(self, stage: int, form: Form) -> str:
        """Ask for a plan, a chain or the answer."""
        shown = self.words.example if self._shown else None
        words = shown.plan if shown is not None and form == "plan" else getattr(self.words.turns, form)
        return self._asked(self._filled(words, stage))

    def write_header(self, stage: int, number: int, *, nested: bool = False, inputs: bool = False) -> str:
        """End the planner's turn, unless ``inputs`` did, and ask for one execution."""
        words = self.words.turns
        asks = words.nested if nested else words.execution
        return self._question(asks, stage, after="" if inputs else self._close).fill(str(number))

    def write_plan(
        self, stage: int, text: str, prompts: Sequence[str], *, after: Sequence[Sequence[int]] = ()
    ) -> list[str]:
        """Write a policy's plan as a turn of the planner; JSON can express any text."""
        keys = self.words.keys
        thoughts = f"{self._written(keys.thoughts[0])}: {self._written(text)}, " if text else ""
        opening = self.write_opening(stage, "plan") + self._thought
        pending = opening + f"{{{thoughts}{self._written(keys.subtasks[0])}: ["
        key, waits = self._written(keys.prompt[0]), self._written(keys.after[0])
        pieces: list[str] = []
        for index, prompt in enumerate(prompts):
            others = after[index] if index < len(after) else ()
            dependencies = f", {waits}: {[*others]}" if others else ""
            pieces.append(pending + f"{{{key}: {self._written(prompt)}{dependencies}}}")
            pending = ", "
        return [*pieces, "]}" if pieces else pending + "]}"]

    def write_completion(self, stage: int, number: int, written: str) -> str:
        """Mark the end of the turn, and escape all other marks of turns."""
        content = written.removesuffix(self._stop)
        stop = written[len(content) :]
        if self._any_mark.search(content):
            content = without_marks(content, self._marks)
        return compose([content, markup(stop)]) if stop else escape_surrogates(content)

    def mark(self, written: str) -> str:
        """Mark the end of the turn."""
        content = written.removesuffix(self._stop)
        return compose([content, markup(written[len(content) :])])

    def write_join(
        self, stage: int, executions: Sequence[JoinedExecution], *, plan: str | None = None, inputs: bool = False
    ) -> list[str]:
        """End the planner's turn, and write each execution as a question and a turn of the model."""
        pending = [self._closing(plan) if plan is not None else self._close if inputs else ""]
        texts: list[str] = []
        question = self._question(self.words.turns.execution, stage)
        for number, text, generated, failed in executions:
            pending.append(question.fill(str(number)))
            if generated:
                texts.append(compose(pending))
                pending = [self._closing(text)]
            else:
                pending += [self._thought, self._result_turn(text, failed=failed), self._close]
        return [*texts, compose(pending)]

    def write_end(self, form: Form, written: str) -> str:
        """End the model's turn."""
        return self._closing(written)

    def write_feedback(
        self,
        role: Role,
        stage: int,
        number: int,
        written: str,
        *,
        error: str = "",
        outcomes: Sequence[ToolOutcome] = (),
    ) -> str:
        """End the model's turn, and write the error, or what the tools returned."""
        closing, turns = self._closing(written), self.words.turns
        if outcomes:
            return closing + self._tool_results(stage, number, written, outcomes)
        prose = self._prose(written) if turns.prose else ""
        execution, reason = role == "execution", self._written(error)
        words = (
            turns.invalid_execution if execution else turns.invalid_answer if role == "answer" else turns.invalid_plan
        )
        # The reason quotes the turn, and a model that no schema holds to the form copies what it reads.
        if (prose or self._shown) and role in ("plan", "graph"):
            words = turns.prose
        note = self._filled(words, stage, number, error=reason)
        if self._shown and self.words.example and not prose:
            # A small model repeats its last turn, so that must not be the wrong one.
            turn = self._shown.results[0] if execution else self._shown.answer if role == "answer" else self._shown.plan
            closing = compose([closing, self._asked(self.words.example.again), self._thought, turn, self._close])
        if prose:
            # In JSON, since a small model goes on as its last turn was written.
            again = self._question(turns.execution, stage).fill(str(number)) if execution else ""
            return compose([closing, self._said(note), self._thinking(prose), again])
        if execution:
            return closing + self._asked(note)
        return compose([closing, self._said(note), self._ready() if self.turns.alternate else ""])

    def read_plan(self, stage: int, form: Form) -> JsonPlanReader:
        """Read JSON, and whatever precedes it."""
        words, typed = self.words, self._planner.schema is not None
        thinking = self.turns.thoughts == "open"
        return JsonPlanReader(
            words.keys,
            stage=stage,
            form=form,
            marks=self._stops,
            typed=typed,
            told=words.told,
            copies=self._shown.copies if self._shown else (),
            thinking=thinking,
        )

    def read_turn(self, stage: int, number: int, written: str) -> Turn:
        """Read a result, or tool calls."""
        executor = self._executor or AgentBrief()
        typed, tools = executor.schema is not None, bool(executor.tools)
        if self._calls is not None and self._calls in written:
            written = written.partition(self._calls)[2]
        thinking = self.turns.thoughts == "open"
        return read_turn(
            written,
            self.words.keys,
            marks=self._stops,
            typed=typed,
            tools=tools,
            thinking=thinking,
            copies=self._shown.copies if self._shown else (),
        )

    def _tool_results(self, stage: int, number: int, written: str, outcomes: Sequence[ToolOutcome]) -> str:
        """Write what the tools returned: in turns of the tools if the model called them natively."""
        if self._calls is not None and self._calls in written:
            return compose([*map(self._tool_turn, outcomes), self._assistant])
        results = [
            f"{{{self._tool}: {self._written(outcome.tool)}, "
            f"{self._failed if outcome.failed else self._result}: {without_marks(outcome.text, self._marks)}}}"
            for outcome in outcomes
        ]
        return self._asked(self._filled(self.words.turns.results, stage, number, results=f"[{', '.join(results)}]"))

    def _result_turn(self, text: str, *, failed: bool) -> str:
        """Write a result, or why there is none, as an executor would have."""
        value = self._written(text) if failed or not _is_json(text) else without_marks(text, self._marks)
        return f"{{{self._failed if failed else self._result}: {value}}}"

    def _write_system(self) -> PromptText:
        turns, example = self.turns, self._example()
        opening = self._user if example else turns.open("user", after="system")
        return compose([turns.open("system"), self._told_of_all(), turns.close("system"), *example, opening])

    def _told_of_all(self) -> str:
        words, executor = self.words.system, self._executor
        types = [(words.answer, self._planner.schema)]
        if executor is not None:
            types.append((words.result, executor.schema))
        parts = [words.planner, words.program if executor is None else words.executor]
        if executor is not None and executor.tools:
            told = (
                fill(words.tool, tool=tool.name, description=tool.description, schema=tool.schema)
                for tool in executor.tools
            )
            parts.append(words.offered if self._calls is not None else "\n".join([words.tools, *told]))
        said = (fill(words.typed if schema else words.text, what=what, schema=schema or "") for what, schema in types)
        parts.append("\n".join(filter(None, [words.thoughts, *said])))
        agents = {"planner": self._planner, "executor": executor or AgentBrief()}
        parts += [
            fill(words.instructions, role=role, instructions=agent.instructions)
            for role, agent in agents.items()
            if agent.instructions
        ]
        return "\n\n".join(part.strip() for part in parts)

    def _example(self) -> list[str]:
        """Write the example conversation, whose stage is 0."""
        shown, words, turns = self._shown, self.words.example, self.words.turns
        if shown is None or words is None:
            return []
        conversation = [(self._filled(words.plan, 0), shown.plan)]
        for number, result in enumerate(shown.results, 1):
            conversation.append((self._filled(turns.execution, 0, number), result))
        conversation.append((self._filled(turns.answer, 0), shown.answer))
        written = [self.turns.open("user", after="system"), words.task, self._end]
        written += [self._ready()] if self.turns.alternate else []
        for asked, turn in conversation:
            written += [self._asked(asked), self._thought, turn, self._close]
        return written

    def _filled(self, words: str, stage: int, number: int = 0, *, error: str = "", results: str = "") -> str:
        return fill(words, stage=stage, number=number, error=error, results=results, **self._shapes)

    def _question(self, words: str, stage: int, *, after: str = "") -> PromptTemplate:
        key = words, stage, after
        if key not in self._questions:
            if len(self._questions) == _MOST_QUESTIONS:
                self._questions.clear()
            asked = self._asked(fill(words, stage=stage, number=_GAP, error="", results="", **self._shapes))
            self._questions[key] = PromptTemplate(compose([after, asked]), gap=_GAP)
        return self._questions[key]

    def _written(self, text: str) -> str:
        return write(text, marks=self._marks)

    def _said(self, words: str) -> str:
        return compose([self._user, words, self._end])

    def _ready(self) -> str:
        """Write a filler turn of the model between two turns of the user, for templates that require alternation."""
        return self._thinking(self.words.turns.ready)

    def _thinking(self, words: str) -> str:
        """Write a turn of the model that only thinks."""
        turn = write({self.words.keys.thoughts[0]: words}, marks=self._marks)
        return compose([self._assistant, self._thought, turn, self._close])

    def _prose(self, written: str) -> str:
        """Return the end of a turn in prose; nothing of one that begins as JSON does."""
        if self._calls is not None and self._calls in written:
            return ""
        text = written.removesuffix(self._stop).rpartition(THOUGHTS[1])[2].strip()
        return "" if text[:1] in _JSON_BEGINS else text[-_LONGEST_PROSE:].strip()

    def _tool_turn(self, outcome: ToolOutcome) -> str:
        """Write the result of one call, or why it failed."""
        text = without_marks(outcome.text, self._marks)
        failed = f"{{{self._failed}: {text}}}"
        turn = failed if outcome.failed else text
        return compose([self.turns.open("tool"), turn, self.turns.close("tool")])

    def _asked(self, words: str) -> str:
        return compose([self._user, words, self._answering])

    def _closing(self, written: str) -> str:
        """Return the text that closes a turn of the model, without the part that it has written itself."""
        at = written.rfind(self._stop) if self._stop else -1
        if at < 0:
            return self._close
        rest, beyond = self._close.split(self._stop, 1)[1], written[at + len(self._stop) :]
        if beyond.strip():
            return self._close
        return markup(rest.removeprefix(beyond)) if rest.startswith(beyond) else ""


def _is_json(text: str) -> bool:
    try:
        from_json(text, allow_inf_nan=False)
    except ValueError:
        return False
    return True
