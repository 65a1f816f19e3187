import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest

from sprint_agents import Sprint
from sprint_agents.testing import FakeEngine, Prompt, Reply, run_virtual

EXECUTION = re.compile(r"<execution_(\d+\.\d+)>\n$")


def role(text: str) -> str:
    """Name the purpose of a request: ``1.2`` is an execution, the other names are the planner's."""
    if match := EXECUTION.search(text):
        return match[1]
    if text.endswith("<think>\n"):
        return "chain"
    return "answer" if text.endswith("<Final_answer>\n") else "plan"


@pytest.fixture(scope="session")
def plan() -> Callable[..., str]:
    """Writes plan number ``stage`` as a model does."""

    def make(stage: int, *prompts: str) -> str:
        inner = "".join(f"<prompt_{stage}.{n}>{prompt}</prompt_{stage}.{n}>\n" for n, prompt in enumerate(prompts, 1))
        return f"<Plan_{stage}>\n{inner}</Plan_{stage}>"

    return make


@pytest.fixture(scope="session")
def answer() -> Callable[[object], str]:
    """Writes an answer as a model does."""
    return lambda value: f"<Final_answer>\n\\boxed{{{value}}}\n</Final_answer>"


@pytest.fixture(scope="session")
def chain() -> Callable[..., Reply]:
    """Writes a chain of thought that ends with an answer, as a model does."""
    return lambda value, seconds=1: Reply(
        f"let me see\n</think>\n<Final_answer>\n\\boxed{{{value}}}\n</Final_answer>", delay=seconds
    )


@pytest.fixture(scope="session")
def script() -> Callable[..., Callable[[Prompt], Reply | str]]:
    """A model that replies by the role of a request: a text, a ``Reply``, or several of them in order.

    An execution without an entry replies with its label. A reply that is not a ``Reply`` takes a second.
    """

    def make(table: Mapping[str, str | Reply | Sequence[str | Reply]]) -> Callable[[Prompt], Reply | str]:
        rest = {role: [value] if isinstance(value, str | Reply) else list(value) for role, value in table.items()}

        def respond(prompt: Prompt) -> Reply | str:
            asked = role(prompt.text)
            reply = rest[asked].pop(0) if asked in rest else f"result {asked}\n"
            reply = Reply(reply, delay=1) if isinstance(reply, str) else reply
            close = f"</execution_{asked}>" if asked[0].isdigit() else ""
            return replace(reply, text=reply.text + close)

        return respond

    return make


@pytest.fixture(scope="session")
def schedule() -> Callable[[FakeEngine], list[tuple[str, float, float]]]:
    """The start and the end of each request, in this order; an aborted one is marked with x."""

    def read(engine: FakeEngine) -> list[tuple[str, float, float]]:
        rows = [
            (
                role(record.request.context.text) + (" x" if record.outcome == "aborted" else ""),
                record.started,
                float("inf") if record.ended is None else record.ended,
            )
            for record in engine.requests
        ]
        return sorted(rows, key=lambda row: (row[1], row[2], row[0]))

    return read


@pytest.fixture(scope="session")
def run() -> Callable[..., object]:
    """Run a task in virtual time."""
    return lambda engine, task="question", **options: run_virtual(Sprint(engine, **options).run(task))
