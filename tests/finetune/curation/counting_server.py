"""A scripted server with OpenAI's API that finds steps and dependencies, and counts how often it is asked what."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sprint_finetune.curation import Trace
from tests.engines.openai.scripted import Exchange, ScriptedServer, answers, says, served

STEPS = [([[1, 1]], []), ([[2, 2]], [[3, 6]]), ([[7, 7]], [[8, 11]]), ([[12, 13]], [])]
PARENTS = [[], [1], [1], [2, 3]]
"""The steps and dependencies of the traces that ``make_trace`` makes."""


@dataclass
class CountingModel:
    """Answers every question correctly, with a text that no other answer has.

    The first answer about a trace with an odd number cannot be used, in both stages. From request ``hold_from`` on, no
    request is answered, and ``reached`` is set. The first ``refused`` requests are refused with ``Retry-After: 0``.
    """

    refused: int = 0
    hold_from: int = 10**9
    reached: threading.Event = field(default_factory=threading.Event)
    asked: list[str] = field(default_factory=list[str])
    answered: dict[str, str] = field(default_factory=dict[str, str])
    """The question that each text answers."""

    async def act(self, exchange: Exchange) -> None:
        question = json.dumps(exchange.body["messages"])
        self.asked.append(question)
        if len(self.asked) <= self.refused:
            await answers({"error": {"message": "slow down"}}, 429, retry_after="0")(exchange)
        elif len(self.asked) >= self.hold_from:
            self.reached.set()
            await exchange.hold()
        else:
            text = self.answer(exchange.body["messages"], number=len(self.asked))
            self.answered[text] = question
            await says(text)(exchange)

    def answer(self, messages: list[dict[str, str]], *, number: int) -> str:
        first = messages[0]["content"]
        odd = re.search(r"There is t\d*[13579] in it", first) is not None
        if odd and len(messages) == 1:
            return f"I think about it ({number})."
        if first.startswith("You analyse how a solution was found"):
            steps = [
                {"plan": p, "execution": e, "comments": [], "description": f"{number}", "prompt": "Do it." if e else ""}
                for p, e in STEPS
            ]
            return json.dumps({"steps": steps})
        found = [{"step": step, "parents": parents} for step, parents in enumerate(PARENTS, 1)]
        return f"Answer {number}: {json.dumps({'parents': found})}"


@contextmanager
def counting(model: CountingModel) -> Iterator[ScriptedServer]:
    with served(model.act) as server:
        yield server


def questions_of(traces: list[Trace]) -> int:
    """Count the questions about traces: steps and dependencies, and a repair of each for every second trace."""
    return sum(4 if int(trace.id[1:]) % 2 else 2 for trace in traces)
