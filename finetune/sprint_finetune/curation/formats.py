r"""Recognise the public formats of reasoning traces: which columns hold the problem, the traces and the answer.

=================  ======================================================================================
own                ``problem``, ``trace``, ``answer``
messages           ``messages``, or ``prompt`` and ``completion`` (TRL): roles and contents; ``reasoning_content``
sharegpt           ``conversations``: from and value (OpenThoughts, Bespoke-Stratos, Sky-T1)
openr1             ``problem``, ``generations``, ``answer``; each generation is a trace
openthoughts       ``problem``, ``deepseek_reasoning``, ``deepseek_solution``, ``ground_truth_solution``
s1k                ``question``, ``thinking_trajectories``, ``attempt``, ``solution``; s1K-1.1 has prefixes
gsm8k              ``question``, ``answer`` with ``#### 42``
solution           ``problem``, ``solution``, ``answer`` (LIMO, MATH, AIME); without an answer, the solution's box
completion         a prompt, and ``response``, ``output``, ``completion`` or ``generated_solution``
=================  ======================================================================================
"""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sprint_agents.dialects.completions import boxed

_PROBLEM = ("problem", "question", "prompt", "instruction", "query", "input", "task")
_ANSWER = (
    "answer",
    "expected_answer",
    "final_answer",
    "gold_answer",
    "reference_answer",
    "ground_truth",
    "gold",
    "target",
)
_SOLUTION = ("solution", "ground_truth_solution", "gold_standard_solution", "reference_solution")
_COMPLETION = (
    "response",
    "completion",
    "output",
    "generated_solution",
    "generation",
    "llm_response",
    "model_output",
    "r1_solution_1",
)
_ID = ("id", "response_id", "uuid", "unique_id", "problem_id", "question_id", "_id", "record id")
_PAIRS = (
    ("openthoughts", "deepseek_reasoning", "deepseek_solution"),
    ("s1k", "thinking_trajectories", "attempt"),
    ("s1k", "deepseek_thinking_trajectory", "deepseek_attempt"),
    ("s1k", "gemini_thinking_trajectory", "gemini_attempt"),
    ("reasoning", "reasoning_content", "content"),
    ("reasoning", "reasoning", "response"),
    ("reasoning", "thinking", "response"),
    ("reasoning", "cot", "attempt"),
)
"""Formats with the thoughts in one column, and what follows them in another."""
_TALKS = (
    ("messages", ("messages",)),
    ("messages", ("prompt", "completion")),
    ("sharegpt", ("conversations",)),
    ("sharegpt", ("conversation",)),
)
"""Formats of conversations, and the columns that hold the turns of one."""
_USERS = frozenset({"user", "human", "prompter"})
_ASSISTANTS = frozenset({"assistant", "gpt", "model", "bot", "chatgpt"})
_OPEN = re.compile(r"<\|begin_of_thought\|>|<(?:thinking|thought|reasoning)>|<\|im_start\|>think\n?")
_CLOSE = re.compile(r"<\|end_of_thought\|>|</(?:thinking|thought|reasoning)>|<\|im_start\|>answer\n?")
_SOLUTION_MARKS = re.compile(r"<\|(?:begin|end)_of_solution\|>|</?answer>|<\|im_end\|>")
_CALCULATED = re.compile(r"<<[^<>]*>>")
_FINAL = re.compile(r"\n?####\s*(?P<value>.+?)\s*$")


class FoundFields(NamedTuple):
    """The fields of a row. There are several ``traces`` if a row has several generations."""

    format: str
    problem: str | None
    traces: tuple[str, ...]
    answer: str | None
    id: str | None


def fields_of(row: Mapping[str, Any]) -> FoundFields:
    r"""Recognise the format of a row. What it does not have is None, or empty.

    >>> fields_of({"question": "6*7?", "answer": "6*7=<<6*7=42>>42.\n#### 42"})
    FoundFields(format='gsm8k', problem='6*7?', traces=('6*7=42.\nThe answer is 42.',), answer='42', id=None)
    """
    columns = {str(name).casefold(): value for name, value in row.items()}
    talk = _conversation(columns)
    problem = _problem(columns) or (talk.problem if talk else None)
    answer = _first(columns, _ANSWER)
    solution = _first(columns, _SOLUTION)
    final = _FINAL.search(answer) if answer else None
    form, traces = _traces(columns, talk, solution)
    if final and answer:
        if not traces:
            worked = _CALCULATED.sub("", answer[: final.start()])
            form, traces = "gsm8k", (f"{worked}\nThe answer is {final['value']}.",)
        answer = final["value"]
    if answer is None and solution:
        box = boxed(solution)
        answer = box if box is not None else solution.strip() if len(solution) < 100 and form != "solution" else None
    identity = next((columns[name] for name in _ID if isinstance(columns.get(name), str | int)), None)
    cleaned = tuple(with_think_tags(text) for text in traces)
    return FoundFields(form, problem, cleaned, answer, None if identity in (None, "") else str(identity))


def with_think_tags(text: str) -> str:
    """Write the marks of thoughts as ``<think>`` and ``</think>``, and remove the marks of solutions.

    >>> with_think_tags("<|begin_of_thought|>a<|end_of_thought|><|begin_of_solution|>b<|end_of_solution|>")
    '<think>a</think>b'
    """
    return _SOLUTION_MARKS.sub("", _CLOSE.sub("</think>", _OPEN.sub("<think>", text)))


class _Conversation(NamedTuple):
    format: str
    problem: str | None
    trace: str


def _traces(
    columns: Mapping[str, Any], talk: _Conversation | None, solution: str | None
) -> tuple[str, tuple[str, ...]]:
    if own := _text(columns.get("trace")):
        return "own", (own,)
    generations = columns.get("generations")
    if isinstance(generations, Sequence) and not isinstance(generations, str):
        found = tuple(text for one in _items(generations) if (text := _text(one)))
        if found:
            return "openr1", found
    for form, thoughts, after in _PAIRS:
        value = columns.get(thoughts)
        listed = _items(value) if isinstance(value, list) else [value]
        found = tuple(
            f"<think>\n{text}\n</think>\n{_text(columns.get(after)) or ''}" for one in listed if (text := _text(one))
        )
        if found:
            return form, found
    if talk:
        return talk.format, (talk.trace,)
    if completion := _first(columns, _COMPLETION):
        return "completion", (completion,)
    return ("solution", (solution,)) if solution else ("unknown", ())


def _conversation(columns: Mapping[str, Any]) -> _Conversation | None:
    """Read the first exchange of a conversation: the first user's words, and the first answer after them."""
    for form, names in _TALKS:
        parts: list[Any] = [columns.get(name) for name in names]
        if not all(isinstance(part, list) for part in parts):
            continue
        turns = list(itertools.chain.from_iterable(parts))
        problem: str | None = None
        for role, text in _turns(turns):
            if role in _USERS and problem is None:
                problem = text
            elif role in _ASSISTANTS and problem is not None:
                return _Conversation(form, problem, text)
    return None


def _turns(turns: Any) -> Iterator[tuple[str, str]]:
    for turn in turns:
        if not isinstance(turn, Mapping):
            continue
        said: Mapping[str, Any] = turn  # pyright: ignore[reportUnknownVariableType]
        role = str(said.get("role") or said.get("from") or "").casefold()
        content = said.get("content") or said.get("value")
        text = _parts(content, "text") if isinstance(content, list) else _text(content)
        thoughts = _text(said.get("reasoning_content")) or _text(said.get("reasoning")) or _parts(content, "thinking")
        text = text or ""
        yield role, f"<think>\n{thoughts}\n</think>\n{text}" if thoughts else text


def _problem(columns: Mapping[str, Any]) -> str | None:
    """Return the problem: of Alpaca's columns, the instruction together with its input."""
    found = next((name for name in _PROBLEM if _text(columns.get(name))), None)
    names = ("instruction", "input") if found == "instruction" else (found or "",)
    return "\n\n".join(text for name in names if (text := _text(columns.get(name)))) or None


def _parts(content: Any, kind: str) -> str | None:
    """Return the parts of one kind of a message whose content is a list, joined."""
    parts: list[Any] = [*content] if isinstance(content, list) else []
    found = [text for part in parts if isinstance(part, dict) and (text := _text(part.get(kind)))]  # pyright: ignore[reportUnknownMemberType]
    return "\n".join(found) or None


def _items(value: Any) -> list[Any]:
    return [*value]


def _first(columns: Mapping[str, Any], names: Sequence[str]) -> str | None:
    return next((text for name in names if (text := _text(columns.get(name)))), None)


def _text(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value != value:  # not a number: no text
        return None
    text = f"{value:g}" if isinstance(value, float) and value.is_integer() else str(value)
    return text if text.strip() else None
