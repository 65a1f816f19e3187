"""`sprint batch`: one line for every task, even after an interruption."""

import asyncio
import json
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, strategies

from sprint_agents import Run
from sprint_agents.cli.batch import RunLines, read_tasks
from sprint_agents.manifest import Manifest
from sprint_agents.nano import nano_path
from sprint_agents.rollouts import Rollout
from sprint_agents.testing import FakeEngine, Fault, Prompt

TASKS = [{"task": f"countdown 3 7 25 {target}", "id": f"t{target}"} for target in range(40, 52)]
ANSWER = "<Final_answer>\\boxed{4}</Final_answer>"


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    return write(tmp_path / "tasks.jsonl", TASKS)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "runs.jsonl"


def write(path: Path, lines: Sequence[object]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def lines_of(path: Path) -> list[dict[str, object]]:
    text = path.read_text()
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def ids_of(path: Path) -> list[object]:
    return [line["id"] for line in lines_of(path)]


def test_every_task_gets_a_run_line(call, tasks: Path, out: Path) -> None:
    result = call("batch", tasks, "--out", out, "--engine", "fake")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = {line["id"]: line for line in lines_of(out)}
    assert len(lines_of(out)) == len(TASKS)
    assert {name: line["task"] for name, line in lines.items()} == {task["id"]: task["task"] for task in TASKS}
    for line in lines.values():
        assert Run[str].model_validate(line).error is None
    right = sum(line["verified"] for line in lines.values())
    assert 0 < right < len(TASKS)
    assert result.stdout.startswith(
        f"12 done, 0 skipped, 0 failed; verified {right} of 12 checked ({right / 12:.0%}); "
    )


def test_done_tasks_are_skipped_and_no_engine_is_opened_if_all_are_done(
    call, tasks: Path, out: Path, use_engine
) -> None:
    call("batch", write(tasks, TASKS[:5]), "--out", out, "--engine", "fake")
    result = call("batch", write(tasks, TASKS), "--out", out, "--engine", "fake")
    assert result.stdout.startswith("7 done, 5 skipped")
    before = out.read_bytes()
    engine = use_engine(FakeEngine([]))
    assert call("batch", tasks, "--out", out, "--engine", "fake").stdout.startswith("0 done, 12 skipped")
    assert out.read_bytes() == before
    assert engine.account().started == 0
    assert sorted(ids_of(out)) == sorted(task["id"] for task in TASKS)


@given(cut=strategies.floats(0, 1))
def test_a_file_cut_anywhere_is_repaired(tmp_path_factory: pytest.TempPathFactory, cut: float) -> None:
    path = tmp_path_factory.mktemp("cut") / "runs.jsonl"
    runs = [Run[str](id=f"t{number}", task=f"tâche {number}", policy="p", answer="é") for number in range(3)]
    tasks = {run.id: run.task for run in runs}
    with RunLines(path, tasks) as lines:
        for run in runs:
            lines.append(run)
    whole = path.read_bytes()
    path.write_bytes(whole[: round(cut * len(whole))])
    with RunLines(path, tasks) as lines:
        for run in runs:
            if run.id not in lines.done:
                lines.append(run)
    assert path.read_bytes() == whole


def test_a_half_written_line_with_a_newline_is_repaired_too(call, tasks: Path, out: Path) -> None:
    out.write_text('{"id": "t40", "task": "countd\n')
    assert call("batch", tasks, "--out", out, "--engine", "fake").exit_code == 0
    assert sorted(ids_of(out)) == sorted(task["id"] for task in TASKS)


def test_an_interrupted_batch_resumes(call, tasks: Path, out: Path, use_engine) -> None:
    async def interrupted(prompt: Prompt) -> str:
        if prompt.number == 6:
            for _ in range(10):
                await asyncio.sleep(0)  # let the fifth run reach the file
            signal.raise_signal(signal.SIGINT)
        return ANSWER

    engine = use_engine(FakeEngine(interrupted, faults={6: Fault.hang()}))
    result = call("batch", tasks, "--out", out, "--engine", "fake", "--concurrency", 1)
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")
    assert result.stdout.startswith("5 done")
    assert ids_of(out) == [task["id"] for task in TASKS[:5]]
    assert engine.account().running == 0
    use_engine(FakeEngine(ANSWER))
    assert call("batch", tasks, "--out", out, "--engine", "fake").exit_code == 0
    assert sorted(ids_of(out)) == sorted(task["id"] for task in TASKS)


def test_failed_runs_are_lines_and_are_retried_on_demand(call, tasks: Path, out: Path, use_engine) -> None:
    arguments = ("batch", write(tasks, TASKS[:4]), "--out", out, "--engine", "fake", "--concurrency", 1)
    use_engine(FakeEngine(ANSWER, faults={2: Fault.drop()}, manifest=Manifest.load(nano_path())))
    result = call(*arguments)
    assert result.exit_code == 0
    assert result.stdout.startswith("4 done, 0 skipped, 1 failed; verified 0 of 3 checked (0%)")
    assert [line["error"] and line["error"]["type"] for line in lines_of(out)] == [
        None,
        "EngineUnavailable",
        None,
        None,
    ]
    use_engine(FakeEngine(ANSWER))
    assert call(*arguments).stdout.startswith("0 done, 4 skipped, 0 failed")
    assert call(*arguments, "--retry-failed").stdout.startswith("1 done, 3 skipped, 0 failed")
    assert sorted(ids_of(out)) == ["t40", "t41", "t42", "t43"]
    assert all(line["error"] is None for line in lines_of(out))


def test_tasks_that_cannot_be_run_are_lines_with_an_error(call, tasks: Path, out: Path) -> None:
    write(tasks, [{"task": ""}, {"task": "a poem"}, TASKS[6]])
    result = call("batch", tasks, "--out", out, "--engine", "fake")
    assert result.exit_code == 0
    errors = {line["task"]: line["error"] and line["error"]["type"] for line in lines_of(out)}
    assert errors == {"": "UnsupportedTask", "a poem": "UnsupportedTask", "countdown 3 7 25 46": None}


def test_a_task_without_an_id_keeps_its_name_on_any_line(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    first = read_tasks(write(path, [{"task": "a"}, {"task": "b"}, {"task": "a", "id": None}, {"task": "c", "id": 7}]))
    assert list(first.values()) == ["a", "b", "a", "c"]
    assert len(first) == 4
    assert first["7"] == "c"
    again = read_tasks(write(path, [{"task": "new"}, {"task": "b"}, {"task": "a"}, {"task": "a"}, {"task": "a"}]))
    assert {name: task for name, task in first.items() if name != "7"}.items() <= again.items()


def test_equal_tasks_are_run_each_once(call, tasks: Path, out: Path) -> None:
    write(tasks, [{"task": TASKS[0]["task"]}, {"task": TASKS[0]["task"]}, {"task": TASKS[0]["task"], "id": "x"}])
    call("batch", tasks, "--out", out, "--engine", "fake")
    assert len(set(ids_of(out))) == len(ids_of(out)) == 3
    assert call("batch", tasks, "--out", out, "--engine", "fake").stdout.startswith("0 done, 3 skipped")


def test_task_files_of_other_programs_are_read(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"task": "one\xe2\x80\xa8line", "level": 3}\r\n\r\n  \n{"id": "b", "task": "two"}')
    assert list(read_tasks(path).values()) == ["one\u2028line", "two"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"task": "a"}\nnonsense\n', "line 2 is not a task: Invalid JSON"),
        ('{"task": "a"}\n\n{"id": "x"}\n', "line 3 is not a task: task: Field required"),
        ('{"task": 3}\n', "line 1 is not a task: task: Input should be a valid string"),
        ('"countdown 1 2 3"\n', "line 1 is not a task: "),
        ('{"task": "a", "id": ""}\n', "line 1 is not a task: id: "),
        ('{"task": "a", "id": "x"}\n{"task": "b", "id": "x"}\n', "lines 1 and 2 have the same id 'x'"),
    ],
)
def test_a_malformed_line_stops_before_anything_runs(call, tasks: Path, out: Path, content: str, words: str) -> None:
    tasks.write_text(content)
    result = call("batch", tasks, "--out", out, "--engine", "fake")
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr
    assert "othing was run" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    "content",
    [
        "notes that somebody wrote",
        '{"task": "countdown 3 7 25 40", "id": "t40"}\n',
        '{"id": "t40", "task\n{"id": "t41", "task": "countdown 3 7 25 41", "error": null}\n',
        '{"id": "t40", "task": "another task", "error": null}\n',
    ],
)
def test_a_file_that_holds_no_runs_of_these_tasks_is_left_alone(call, tasks: Path, out: Path, content: str) -> None:
    out.write_text(content)
    result = call("batch", tasks, "--out", out, "--engine", "fake")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "give another --out" in result.stderr
    assert out.read_text() == content


def test_files_that_cannot_be_used_are_named(call, tasks: Path, out: Path, tmp_path: Path) -> None:
    missing = tmp_path / "missing.jsonl"
    assert f"{missing} cannot be read: No such file" in call("batch", missing, "--out", out, "--engine", "fake").stderr
    nowhere = tmp_path / "no" / "folder" / "runs.jsonl"
    result = call("batch", tasks, "--out", nowhere, "--engine", "fake")
    assert result.exit_code == 2
    assert f"{nowhere} cannot be written: No such file" in result.stderr
    assert call("batch", tasks, "--out", tmp_path, "--engine", "fake").exit_code == 2


def test_tasks_of_reasoning_gym_are_made_scored_and_resumed(call, out: Path, use_engine) -> None:
    use_engine(FakeEngine(lambda prompt: "<Final_answer>\\boxed{292}</Final_answer>"))
    arguments = ("batch", "--gym", "leg_counting", "--gym-seed", "1", "--out", out, "--engine", "fake")
    result = call(*arguments, "--count", "1")
    assert (result.exit_code, result.stderr) == (0, "")
    assert [(line["id"], line["verified"]) for line in lines_of(out)] == [("leg_counting-1", True)]
    result = call(*arguments, "--count", "2")
    assert result.stdout.startswith("1 done, 1 skipped, 0 failed; verified 0 of 1 checked (0%); ")
    assert {line["id"]: line["verified"] for line in lines_of(out)} == {"leg_counting-1": True, "leg_counting-2": False}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "a batch has a file of tasks, or --gym: give one of them"),
        (("tasks.jsonl", "--gym", "products"), "a batch has a file of tasks, or --gym: give one of them"),
        (("--gym", "product"), "reasoning-gym has no generator 'product': use some of ab, acre"),
    ],
)
def test_a_batch_has_one_source_of_tasks(call, out: Path, arguments, words) -> None:
    result = call("batch", *arguments, "--out", out, "--engine", "fake")
    assert result.exit_code == 2
    assert words in result.stderr
    assert not out.exists()


def test_rollouts_have_the_token_ids_of_each_run(call, use_engine, tasks: Path, out: Path, tmp_path: Path) -> None:
    use_engine(FakeEngine(ANSWER, manifest=Manifest.load(nano_path())))
    rollouts = tmp_path / "rollouts.jsonl"
    rollouts.write_bytes(b'{"run_id": "cut sho')  # by a process that was killed
    call("batch", tasks, "--out", out, "--engine", "fake", "--rollouts", rollouts)
    found = [Rollout.model_validate_json(line) for line in rollouts.read_bytes().splitlines()]
    assert sorted(rollout.run_id for rollout in found) == sorted(str(name) for name in ids_of(out))
    verdicts = {line["id"]: line["verified"] for line in lines_of(out)}
    for rollout in found:
        assert rollout.verified == verdicts[rollout.run_id]
        assert [piece.text for piece in rollout.branches[0].pieces if piece.sampled] == [ANSWER]
