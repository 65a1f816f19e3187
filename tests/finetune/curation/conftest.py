"""Fixtures of the curation tests: the hand-written traces, and a verifier that needs no process."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sprint_finetune.curation import Trace
from sprint_finetune.curation.labelled_traces import LabelledTrace, read_labelled

TRACES = Path(__file__).parents[1] / "traces"


class SameText:
    """A ``Verifier`` without mathematics. ``asked`` records the pairs that it gets."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def equal(self, reference: str, stated: str) -> bool | None:
        self.asked.append((reference, stated))
        return reference == stated


@pytest.fixture(scope="session")
def labelled() -> list[LabelledTrace]:
    """All hand-written traces with their labels."""
    return [read_labelled(path) for path in sorted(TRACES.glob("*.txt"))]


@pytest.fixture
def verifier() -> SameText:
    return SameText()


@pytest.fixture
def make_trace() -> Callable[..., Trace]:
    """Make a trace with two cases, which can run in parallel."""

    def make(name: str = "t", *, trace: str | None = None, answer: str = "12", problem: str = "How many?") -> Trace:
        text = "Two cases are possible.\n"
        work = "I list them all from the smallest to the largest, and I count every one of them just once"
        for case, count in (("Case 1: n is even.", 5), ("Case 2: n is odd.", 7)):
            text += f"{case}\n{', and then '.join([work] * 4)}.\nNone is missing.\n"
            text += f"I found {name} in it.\nSo there are {count}.\n"
        text = text.replace("I found", "There is") + "In total 5 + 7 = 12.\nThe answer is \\boxed{12}."
        return Trace(id=name, problem=problem, trace=trace if trace is not None else text, answer=answer)

    return make
