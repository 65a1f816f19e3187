"""Make tasks of reasoning-gym and score answers: a program for ``Subprocesses``.

Some scorers pass the answer, which a model wrote, to Python's ``eval`` or to sympy's parser, which calls it. So while a
scorer runs, an audit hook refuses what reaches beyond the process.
"""

import os
import sys
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from typing import Any

from sprint_agents.subprocesses import answer_questions

_NONSENSE = "no such answer"
_REFUSED = ("ctypes.", "os.", "pty.", "shutil.", "socket.", "subprocess.", "urllib.", "webbrowser.")
_HARMLESS = ("os.listdir", "os.scandir", "os.walk")  # imports
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_scoring = False


def main() -> None:
    """Answer the questions."""
    warnings.simplefilter("ignore")
    gym: Any = import_module("reasoning_gym")
    known: dict[str, Any] = import_module("reasoning_gym.factory").DATASETS
    sys.addaudithook(_refuse)

    @lru_cache(maxsize=8)
    def dataset(generator: str, seed: int, count: int) -> Any:
        return gym.create_dataset(generator, size=count, seed=seed)

    def answer(question: dict[str, Any]) -> object:
        if question["ask"] == "generators":
            return sorted(known)
        made = dataset(question["generator"], question["seed"], question["count"])
        if question["ask"] == "tasks":
            return [(str(entry["question"]), _text(entry["answer"])) for entry in made]
        return score(made, made[question["index"]], question["answer"])

    answer_questions(answer)


def score(dataset: Any, entry: dict[str, Any], answer: str) -> float:
    """Return the score of an answer, from 0 to 1."""
    right = _text(entry["answer"])
    if right is not None and _plain(answer) == _plain(right):
        return 1.0
    if _score(dataset, entry, _NONSENSE) >= 1:
        return 0.0  # the scorer accepts anything, so the text decides
    return _score(dataset, entry, answer)


def _score(dataset: Any, entry: dict[str, Any], answer: str) -> float:
    try:
        with _no_reach():
            return min(1.0, max(0.0, float(dataset.score_answer(answer, entry))))
    except (Exception, SystemExit):  # a wrong answer is enough for some scorers; an answer may be the call exit()
        return 0.0


def _text(answer: object) -> str | None:
    return None if answer is None else str(answer)


def _plain(answer: str) -> str:
    return "".join(answer.split()).casefold()


@contextmanager
def _no_reach() -> Generator[None]:
    global _scoring
    _scoring = True
    try:
        yield
    finally:
        _scoring = False


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if not _scoring:
        return
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES
    if writes or (event.startswith(_REFUSED) and event not in _HARMLESS):
        raise PermissionError(f"a scorer may not do {event}")


if __name__ == "__main__":
    main()
