"""Evaluate in processes that kill themselves, one after the other: ``python killed.py FOLDER CONCURRENCY POINT…``.

A point is the number of the request at which a process dies, or ``+`` and the number of the outcome after which it
does. The last process has none and finishes. Each request is written to ``FOLDER/requests`` as its process, method and
case. One program forks all processes, so that the library is imported once. With a concurrency above 1 there is one run
only, so that the order of requests is known.
"""

import asyncio
import os
import signal
import sys
from itertools import count
from pathlib import Path

from sprint_agents import Sprint
from sprint_agents.testing import FakeEngine
from sprint_finetune.evaluation import Case, OutcomeFile, compare

CASES = [Case(id=str(target), task=f"Use 4, 3, 2 to make {target}.") for target in (14, 10, 24)]
PLAN = "<Plan_1>\n<prompt_1.1>left</prompt_1.1>\n<prompt_1.2>right</prompt_1.2>\n</Plan_"
ANSWER = "<Final_answer>\n\\boxed{2*(3+4)}\n</Final_answer>"


def respond(text: str) -> str:
    if "<think>" in text:
        return f"at some length </think>\n{ANSWER}"
    if "</Execution_1>" in text:
        return ANSWER
    return "a few words</execution_" if "<execution_" in text else PLAN


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def evaluate(folder: Path, concurrency: int, process: int, point: str) -> None:
    asked, done = count(1), count(1)

    def scripted(prompt):
        method = "sequential" if "<think>" in prompt.text else "sprint"
        case = prompt.text.partition("make ")[2].partition(".")[0]
        with (folder / "requests").open("a") as log:
            log.write(f"{process} {method} {case}\n")
        if str(next(asked)) == point:
            die()
        return respond(prompt.text)

    def hear(outcome):
        if f"+{next(done)}" == point:
            die()

    async def main():
        async with FakeEngine(scripted) as engine:
            methods = {"sequential": Sprint(engine, policy="sequential"), "sprint": Sprint(engine)}
            if concurrency > 1:
                del methods["sequential"]
            cases = CASES[:1] if concurrency > 1 else CASES
            await compare(methods, cases, out=out, on_outcome=hear, concurrency=concurrency)

    with OutcomeFile(folder / "outcomes.jsonl") as out:
        asyncio.run(main())


def run(folder: Path, concurrency: int, points: list[str]) -> None:
    for process, point in enumerate(points):
        child = os.fork()
        if child == 0:
            evaluate(folder, concurrency, process, point)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) == (point != "never"), (process, point, status)
        lines = (folder / "outcomes.jsonl").read_text().splitlines()
        (folder / f"after-{process}").write_text("\n".join(lines))


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
