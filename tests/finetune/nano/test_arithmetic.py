"""Arithmetic traces: every line is true except slips, which are detected and corrected."""

import itertools
import re

import pytest

from sprint_agents.nano.tasks import Arithmetic, understand
from sprint_finetune.nano.arithmetic import problems, solve
from sprint_finetune.nano.export import NANO


@pytest.fixture(scope="module")
def drawn():
    return list(itertools.islice(problems(seed=5, split="train"), 60))


def subtasks_of(work):
    return [subtask for stage in work.stages for subtask in stage.subtasks]


NAMED = re.compile(r"^ ([A-I]) (?:.*[(\[])?([^()\[\]\n]*)[)\]]*$", re.MULTILINE)
"""The name and the numbers in a line of a plan's lead. The last line may have no name."""


def test_every_line_is_true(drawn):
    for solved, stage in ((work, stage) for work in drawn for stage in work.stages):
        before = solved.stages[: solved.stages.index(stage)]
        earlier = {subtask.prompt for past in before for subtask in past.subtasks}
        lines = [(name, numbers) for name, numbers in NAMED.findall(stage.lead) if name not in earlier]
        named = {name: re.sub("[A-I] ", "", numbers) for name, numbers in lines}
        assert [subtask.prompt for subtask in stage.subtasks] == list(named)
        for subtask in stage.subtasks:
            *lines, last = subtask.text.splitlines()
            value = eval(named[subtask.prompt])
            assert last == f"{subtask.prompt} = {value:.0f}"
            assert len(lines) >= 2
            for line in lines:
                left, right = re.sub(r"^check | (yes|no)$|^.* : ", "", line).split("=")
                assert eval(left) == int(right)
                if " : " in line:
                    assert eval(line.partition(" : ")[0]) == value
                else:
                    assert line.endswith(" yes")


def test_each_plan_reads_the_whole_expression_with_what_earlier_stages_made(drawn):
    for work in drawn:
        for stage in work.stages:
            _, *lines = stage.lead.splitlines()
            read = "".join(re.sub("^ [A-I] ", " ", line) for line in lines).replace("[", "(").replace("]", ")")
            assert eval(re.sub("[A-I] ", "", read).strip()) == work.task.value
            (*_, last) = stage.subtasks[-1].text.split()
        assert work.answer == f"\\boxed{{ {last}}}"


def test_a_plan_has_the_lines_of_the_one_before_with_values_in_the_place_of_groups():
    (first, second, third) = solve(Arithmetic(expression="2 * [(1 + 8) / 3 - (5 - 4) / 1] + (6 - 2)")).stages
    assert first.lead == "Name the groups:\n A 2 * [(1 + 8)\n B / 3 - (5 - 4)\n C / 1] + (6 - 2)\n"
    assert second.lead == "Name the groups:\n D A 2 * [9 B / 3 - 1 C / 1]\n + 4\n"
    assert third.lead == "Only numbers are left:\n E D A 2 * 2 + 4\n"


def test_problems_lie_in_the_range_that_is_said(drawn):
    for work in drawn:
        assert understand(work.task.prompt, NANO) == (work.task.prompt, work.task)
    assert {len(work.stages) for work in drawn} == {2, 3}


def test_a_slip_is_not_learned_and_is_mended():
    slipped = 0
    for work in itertools.islice(problems(seed=5, split="train", slips=0.3), 40):
        for subtask in subtasks_of(work):
            right = next(s for s in subtasks_of(solve(work.task)) if s.prompt == subtask.prompt)
            lines = subtask.text.splitlines()
            for line, after in itertools.pairwise(lines):
                if after.endswith(" no"):
                    slipped += 1
                    wrong = line.rpartition(" ")[2]
                    assert f" {wrong}" in [piece.text for piece in subtask.pieces if not piece.learned]
            assert sum(line.endswith(" no") for line in lines) == sum(not piece.learned for piece in subtask.pieces)
            kept = [
                line
                for line, after in zip(lines, [*lines[1:], ""], strict=True)
                if not line.endswith(" no") and not after.endswith(" no")
            ]
            assert kept == right.text.splitlines()
    assert slipped > 50


def test_a_task_without_a_whole_value_has_no_trace():
    with pytest.raises(ValueError, match="7 / 2 has no trace"):
        solve(Arithmetic(expression="7/2"))
