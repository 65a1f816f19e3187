"""A task with a document, and what a model says to it: the subtasks of a plan, a result of each, and the answer."""

import json
import re
from dataclasses import dataclass, field
from typing import Any

WIDTH = 8
SECTION = "Shelf {number} holds {apples} apples, {pears} pears and {plums} plums, counted on a {day} by two people."
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
DOCUMENT = "\n\n".join(
    f"Section {section}.\n"
    + " ".join(
        SECTION.format(number=shelf, apples=shelf * section, pears=shelf + section, plums=7, day=DAYS[shelf % 5])
        for shelf in range(1, 11)
    )
    for section in range(1, WIDTH + 1)
)
QUESTION = "How much fruit is there in all sections together?"
SUBTASKS = [f"Subtask {number}: add up the fruit of section {number}." for number in range(1, WIDTH + 1)]
PATH = "/document.md"

_SUBTASK = re.compile(r"Subtask (\d+):")
_EXECUTOR = re.compile(r"executor \d+\.(\d+)")


@dataclass(frozen=True, slots=True)
class Turn:
    """What the model says to a request, and in which role: text, or calls of tools as names and arguments."""

    role: str
    text: str = ""
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list[tuple[str, dict[str, Any]]])


def turn(body: dict[str, Any]) -> Turn:
    """Play the model, whose role is planner, executor or answer, by the last message and the tools."""
    messages = body["messages"]
    last, tools = messages[-1], {tool["function"]["name"] for tool in body.get("tools") or []}
    asked = words(last)
    if last["role"] == "tool":
        return Turn("executor", "a result") if "Shelf" in asked else Turn("answer", "9")
    if found := _EXECUTOR.search(asked):
        return Turn("executor", json.dumps({"result": f"result {found[1]}"}))
    if "planner, stage 1" in asked:
        return Turn("planner", json.dumps({"subtasks": SUBTASKS}))
    if "planner, stage" in asked:
        return Turn("answer", json.dumps({"answer": "9"}))
    if (found := _SUBTASK.search(asked)) and "Results" not in asked:
        if "read_file" in tools and "Shelf" not in "".join(map(words, messages)):
            return Turn("executor", calls=[("read_file", {"file_path": PATH})])
        return Turn("executor", f"result {found[1]}")
    if "task" in tools:
        return Turn("planner", calls=[("task", {"description": one, "subagent_type": "solver"}) for one in SUBTASKS])
    if "delegate" in tools:
        return Turn("planner", calls=[("delegate", {"subtask": one}) for one in SUBTASKS])
    if body.get("response_format"):
        return Turn("planner", json.dumps({"subtasks": SUBTASKS}))
    return Turn("answer", "9")


def words(message: dict[str, Any]) -> str:
    """Return the text of a message."""
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
