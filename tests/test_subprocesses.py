"""Programs that answer questions in separate processes: slow, dying, noisy and greedy ones."""

import asyncio
import sys
import textwrap
from pathlib import Path

import pytest

from sprint_agents.subprocesses import Subprocesses

PROGRAM = """
    import os, sys, time
    from sprint_agents.subprocesses import answer_questions

    def answer(question):
        match question:
            case ["echo", value]: return value
            case ["sleep", seconds]: time.sleep(seconds)
            case ["die"]: os._exit(3)
            case ["print"]: print("noise")
            case ["read"]: return sys.stdin.read()
            case ["close"]: sys.stdin.close(), sys.stdout.write("x")
            case ["memory"]: return len(bytearray(8 * 2**30))
            case ["raise"]: raise ValueError("no")
            case ["pid"]: return os.getpid()
            case ["strange"]: return object()

    answer_questions(answer)
"""


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "program_that_answers.py").write_text(textwrap.dedent(PROGRAM))
    monkeypatch.setenv("PYTHONPATH", ":".join([str(tmp_path), *sys.path]))

    def ask_all(*questions, seconds=20.0, processes=1):
        async def run():
            async with Subprocesses("program_that_answers", processes=processes) as program:
                return [await program.ask(question, seconds=seconds) for question in questions]

        return asyncio.run(run())

    return ask_all


def test_answers_are_json_and_a_process_is_used_again(ask):
    first, value, text, again = ask(["pid"], ["echo", [1, None]], ["echo", "é\ud800\n"], ["pid"])
    assert (value, text, again) == ([1, None], "é\ud800\n", first)


def test_whatever_a_program_does_the_next_question_is_answered(ask):
    for mishap in (["print"], ["read"], ["close"], ["raise"], ["memory"], ["die"], ["strange"]):
        found = ask(mishap, ["echo", 7])
        assert found[0] in (None, "")
        assert found[1] == 7, mishap


def test_a_late_answer_is_none_and_never_that_of_the_next_question(ask):
    assert ask(["echo", 1], ["sleep", 30], ["echo", 2], seconds=3.0) == [1, None, 2]


def test_a_program_that_does_not_start_answers_nothing(ask):
    async def run():
        async with Subprocesses("no_such_program") as program:
            return await program.ask(1, seconds=5)

    assert asyncio.run(run()) is None
