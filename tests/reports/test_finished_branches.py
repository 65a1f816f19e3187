"""A finished branch is kept, whatever ends the run: in the error, and in the journal, from which only the rest runs."""

import asyncio
import json
import multiprocessing
import os
import pickle
import random
import resource
import signal
import threading
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sprint_agents import Answer, Budget, Executor, Limits, Plan, Planner, Run, Sprint
from sprint_agents.errors import (
    BudgetExceeded,
    DeadlineExceeded,
    EngineUnavailable,
    ExecutionFailed,
    JournalError,
    NoAnswer,
    PolicyError,
    run_of,
)
from sprint_agents.events import ExecutionFinished
from sprint_agents.policies import dag, first_success, race, until, with_fallback
from sprint_agents.testing import FakeEngine, Fault, Latency, Reply, run_virtual

WIDTH = 64


def answer(value: str) -> str:
    return rf"<Final_answer>\boxed{{{value}}}</Final_answer>"


def plan(*prompts: str, stage: int = 1) -> str:
    parts = (f"<prompt_{stage}.{number}>{prompt}</prompt_{stage}.{number}>" for number, prompt in enumerate(prompts, 1))
    return f"<Plan_{stage}>\n{''.join(parts)}</Plan_{stage}>"


WIDE = {"": plan(*map(str, range(WIDTH))), "</Execution_1>": answer("done")}


class Work:
    """An executor that counts its calls by prompt; the ``last`` prompt hangs or fails until it is repaired."""

    def __init__(self, last: str, how: str) -> None:
        self.last, self.how = last, how
        self.calls: Counter[str] = Counter()

    async def __call__(self, subtask: Any) -> str:
        self.calls[subtask.prompt] += 1
        await asyncio.sleep(1)
        if subtask.prompt == self.last and self.how == "hangs":
            await asyncio.sleep(1e6)
        if subtask.prompt == self.last and self.how == "fails":
            await asyncio.sleep(1)
            raise OSError("no space left")
        return f"result {subtask.prompt}"


def survives(run: Any) -> None:
    """A run with an interrupted stage is the same after JSON and pickle."""
    assert Run[Any, Any].model_validate_json(run.model_dump_json()) == run
    assert pickle.loads(pickle.dumps(run)) == run


async def cancelled_after(seconds: float, run: Any) -> None:
    task = asyncio.ensure_future(run)
    await asyncio.sleep(seconds)
    task.cancel("the user left")
    await task


ENDS: dict[str, Any] = {
    "deadline": ("hangs", {"budget": Budget(seconds=5)}, DeadlineExceeded),
    "cancelled": ("hangs", {}, asyncio.CancelledError),
    "fail_fast": ("fails", {"failure": "fail_fast"}, ExecutionFailed),
}


@pytest.mark.reported("langchain-ai/langgraph#6718")
@pytest.mark.parametrize("end", ENDS)
def test_63_of_64_executions_are_kept(end: str, tmp_path: Path) -> None:
    how, options, error = ENDS[end]
    engine, work = FakeEngine(WIDE), Work("40", how)
    sprint = Sprint(engine, executor=work, **options)
    path = tmp_path / "run.jsonl"
    run = sprint.run("question", journal=path)
    with pytest.raises(error) as caught:
        run_virtual(cancelled_after(5, run) if end == "cancelled" else run)
    failed = run_of(caught.value)
    assert failed is not None
    (stage,) = failed.stages
    assert stage.interrupted
    assert len(stage.results) == WIDTH - 1
    assert [execution.number for execution in stage.failures] == [41]
    expected = "OSError" if end == "fail_fast" else "Superseded"
    assert stage.failures[0].failure.type == expected
    assert failed.error.type == error.__name__
    assert failed.usage.total_tokens == engine.account().generated_tokens
    assert (failed.usage.stages, failed.usage.width) == (0, WIDTH)
    survives(failed)

    work.how, requests = "works", engine.account().started
    again = run_virtual(Sprint(engine, executor=work, **options).run("question", journal=path))
    assert work.calls == {str(number): 1 + (number == 40) for number in range(WIDTH)}
    assert engine.account().started == requests + 1  # the answer
    assert again.transcript == whole(work).transcript
    assert again.usage.subtasks == WIDTH


def whole(work: Any, **options: Any) -> Any:
    return run_virtual(Sprint(FakeEngine(WIDE), executor=work, **options).run("question"))


def test_a_run_is_also_on_errors_of_others() -> None:
    """``run_sync`` after Ctrl-C, an error of a policy, and a cancellation."""

    async def policy(planning):
        yield Plan.of("one")
        raise KeyError("mine")

    with pytest.raises(PolicyError) as caught:
        Sprint(FakeEngine("1"), policy=policy).run_sync("question")
    assert run_of(caught.value).stages[0].results == ["1"]
    assert not run_of(caught.value).stages[0].interrupted
    assert run_of(ValueError()) is None


async def interrupt(subtask: Any) -> str:
    if subtask.prompt == "1":
        await asyncio.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(60)
    return subtask.prompt


def test_a_keyboard_interrupt_has_the_run(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background may ignore it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    engine = FakeEngine({"": plan("0", "1", "2"), "</Execution_1>": answer("done")})
    with pytest.raises(KeyboardInterrupt) as caught:
        Sprint(engine, executor=interrupt).run_sync("question", journal=tmp_path / "run.jsonl")
    run = run_of(caught.value)
    assert run.error.type == "CancelledError"
    assert run.stages[0].interrupted
    assert run.stages[0].results == ["0", "2"]
    records = [json.loads(line)["record"] for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    kept = [record["kept"]["execution"]["number"] for record in records if record.get("kind") == "execution"]
    assert sorted(kept) == [1, 3]


@pytest.mark.parametrize(
    "budget", [Budget(calls=3), Budget(tokens=70), Budget(tokens=98), Budget(subtasks=2)], ids=repr
)
def test_what_a_budget_stopped_runs_with_a_larger_one(budget: Budget, tmp_path: Path) -> None:
    prompts = [str(number) for number in range(6)]
    replies = {"": plan(*prompts), "<execution_1.": "r e s u l t", "</Execution_1>": answer("done")}
    path, engine = tmp_path / "run.jsonl", FakeEngine(replies)

    async def policy(planning):
        stage = yield planning.ask()
        if stage.failures:
            raise ValueError("not all")
        stage = yield planning.ask()
        yield Answer(value=stage.answer)

    limits = Limits(plan_tokens=100, execution_tokens=7)
    with pytest.raises((PolicyError, BudgetExceeded)) as caught:
        run_virtual(Sprint(engine, policy=policy, budget=budget, limits=limits).run("question", journal=path))
    finished = len(caught.value.run.stages[0].results)
    assert finished < 6
    resumed = run_virtual(Sprint(engine, policy=policy, limits=limits).run("question", journal=path))
    assert (resumed.answer, resumed.stages[0].results) == ("done", ["r e s u l t"] * 6)
    assert resumed.usage.total_tokens == engine.account().generated_tokens
    assert resumed.usage.calls == engine.account().started
    assert resumed.usage.subtasks == 6


def test_a_resumed_run_is_charged_for_interrupted_requests_once(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    engine = FakeEngine(
        {"": plan("a", "b"), "<execution_1.1>": "one", "<execution_1.2>": "x " * 40, "</Execution_1>": answer("done")},
        latency=Latency(token=0.1),
    )
    with pytest.raises(DeadlineExceeded) as caught:
        run_virtual(Sprint(engine, budget=Budget(seconds=4)).run("question", journal=path))
    stage = caught.value.run.stages[0]
    interrupted = stage.executions[1].usage.generated_tokens
    assert 0 < interrupted < 40
    assert (
        caught.value.run.usage.total_tokens == engine.account().generated_tokens == stage.usage.total.generated_tokens
    )
    for _ in range(3):
        resumed = run_virtual(Sprint(engine).run("question", journal=path))
        assert resumed.usage.total_tokens == engine.account().generated_tokens
        assert resumed.usage.calls == engine.account().started == 5
    allowed = resumed.usage.total_tokens
    path.write_bytes(
        b"".join(path.read_bytes().splitlines(keepends=True)[:-2])
    )  # without the answer's stage and the end
    assert run_virtual(Sprint(engine, budget=Budget(tokens=allowed)).run("question", journal=path)).answer == "done"


def kept_calls(content: bytes) -> int:
    """Count the requests whose results are in the complete lines of a journal."""
    kept: dict[tuple[Any, ...], int] = {}
    for line in content.splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break
        record = json.loads(line)["record"]
        key = (tuple(record.get("path", ())), record.get("stage"))
        if record.get("kind") == "completion":
            kept[*key, "plan"] = record["call"]["usage"].get("calls", 0)
        elif record.get("kind") == "execution" and not record["kept"]["execution"].get("stages"):
            kept[*key, record["kept"]["execution"]["number"]] = record["kept"]["execution"]["usage"].get("calls", 0)
    return sum(kept.values())


def model(prompt: Any) -> Reply | str:
    """Plans two subtasks, twice, at any depth; every result is the number of its execution."""
    text = prompt.text
    opened = text.rfind("<execution_")
    if opened >= 0 and text.endswith(">\n") and "</execution_" not in text[opened:]:
        number = text[opened + 11 : text.index(">", opened)]
        return f"{number.replace('.', '')}\n</execution_{number}>"
    stage = text.count("</Plan_") + 1
    return plan("one", "two", stage=stage) if stage < 3 else answer("42")


async def nested(planning):
    """Two subtasks that plan themselves."""
    stage = yield Plan.of("left", "right", nested=inner)
    yield Answer(value=" ".join(execution.text for execution in stage.executions))


async def inner(planning):
    stage = yield Plan.of("a", "b")
    stage = yield Plan.of("c")
    yield Answer(value=int(stage.results[0]))


async def pending(planning):
    yield planning.ask(wait=False)
    yield Plan.of("other")
    yield planning.join()
    stage = yield planning.ask("answer")
    yield Answer(value=stage.answer)


async def dependent(planning):
    stage = yield Plan.of("a", "b", "both", "alone", after={3: (1, 2)})
    yield Answer(value=stage.executions[2].text)


SITUATIONS: dict[str, Any] = {
    "interleaved": {},
    "typed": {"executor": Executor(float)},
    "nested policies": {"policy": nested, "executor": Executor(int)},
    "an inner sprint": {"executor": "sprint"},
    "pending": {"policy": pending},
    "dependencies": {"policy": dependent},
    "graph": {"policy": dag()},
    "attempts": {"policy": race(nested, dependent)},
    "until": {"policy": until(dependent, lambda value: False, attempts=2)},
    "fallback": {"policy": with_fallback(until(dependent, lambda value: False, attempts=1), nested)},
    "accepted": {"policy": first_success(dependent, lambda execution: execution.number == 2)},
}


@pytest.mark.reported("langchain-ai/langgraph#6718", "NousResearch/hermes-agent#109984")
@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_journal_cut_anywhere_resumes_to_the_same(situation: str, tmp_path: Path) -> None:
    """After each record, and inside of each, as a killed process leaves them."""
    options = dict(SITUATIONS[situation])
    engine = FakeEngine(model)
    if options.get("executor") == "sprint":
        options["executor"] = Sprint(engine, planner=Planner(int))
    path = tmp_path / "run.jsonl"

    def run() -> Any:
        try:
            return run_virtual(Sprint(engine, **options).run("question", journal=path))
        except NoAnswer as error:  # of ``until``, whose check is never content
            return error.run

    first = run()
    content = path.read_bytes()
    ends = [place + 1 for place, byte in enumerate(content) if byte == 10]
    for end in [0, *ends]:
        for cut in {end, min(end + 1, len(content)), min(end + 97, len(content))}:
            path.write_bytes(content[:cut])
            before = engine.account().started
            again = run()
            assert again.transcript == first.transcript
            assert again.answer == first.answer
            if situation not in ("attempts", "accepted"):  # siblings may be stopped earlier or later
                assert outcome(again) == outcome(first)
                missing = kept_calls(content) - kept_calls(content[:cut])
                assert engine.account().started - before == missing


def outcome(run: Any) -> Any:
    return [
        [(e.number, e.prompt, e.value, e.failure and e.failure.type, outcome(e)) for e in stage.executions]
        for stage in run.stages
    ]


@pytest.mark.parametrize("policy", ["race", "first_success"])
def test_an_accepted_execution_ends_its_stage_after_a_resume_too(policy: str, tmp_path: Path) -> None:
    """Cut off right after the verdict, while its siblings were running."""
    calls: Counter[str] = Counter()

    async def work(subtask: Any) -> str:
        calls[subtask.prompt] += 1
        await asyncio.sleep(1 if subtask.prompt == "quick" else 9)
        return subtask.prompt

    async def slow(planning):
        stage = yield Plan.of("slow")
        yield Answer(value=stage.results[0])

    async def quick(planning):
        stage = yield Plan.of("quick")
        yield Answer(value=stage.results[0])

    async def plans(planning):
        stage = yield Plan.of("slow", "quick", "slow too", accept=lambda execution: True)
        yield Answer(value=stage.executions[stage.accepted - 1].value)

    path = tmp_path / "run.jsonl"
    sprint = Sprint(FakeEngine("unused"), policy=race(slow, quick) if policy == "race" else plans, executor=work)
    first = run_virtual(sprint.run("question", journal=path))
    lines = path.read_bytes().splitlines(keepends=True)
    verdict = next(index for index, line in enumerate(lines) if b'"kind":"verdict"' in line)
    path.write_bytes(b"".join(lines[: verdict + 1]))
    before = calls.copy()
    again = run_virtual(sprint.run("question", journal=path))
    assert calls == before
    assert (again.answer, again.stages[0].accepted) == (first.answer, 2) == ("quick", 2)
    assert again.transcript == first.transcript


def test_a_retry_of_the_planner_keeps_what_had_finished() -> None:
    """The planner loses its connection while it writes; executions of closed prompts have finished by then."""
    calls: Counter[str] = Counter()

    async def work(subtask: Any) -> str:
        calls[subtask.prompt] += 1
        return f"result {subtask.prompt}"

    replies = {
        "": [Reply(plan("a", "b"), fault=Fault.drop(after=24)), plan("a", "b")],
        "</Execution_1>": answer("done"),
    }
    engine = FakeEngine(replies, latency=Latency(token=1))
    events: list[ExecutionFinished] = []

    async def watch() -> None:
        async with Sprint(engine, executor=work, failure="retry").stream("question") as stream:
            events.extend([event async for event in stream if isinstance(event, ExecutionFinished)])

    run_virtual(watch())
    assert calls == {"a": 1, "b": 1}
    assert [(event.execution.number, event.replayed) for event in events] == [(1, False), (1, True), (2, False)]


def test_another_plan_after_a_retry_has_its_own_executions() -> None:
    async def work(subtask: Any) -> str:
        return f"result {subtask.prompt}"

    replies = {
        "": [Reply(plan("a", "b"), fault=Fault.drop(after=24)), plan("c", "d")],
        "</Execution_1>": answer("done"),
    }
    engine = FakeEngine(replies, latency=Latency(token=1))
    run = run_virtual(Sprint(engine, executor=work, failure="retry").run("question"))
    assert run.stages[0].results == ["result c", "result d"]


def test_a_plan_that_the_process_did_not_finish_is_asked_for_again(tmp_path: Path) -> None:
    """Executions of prompts that come out the same are not repeated; others are."""
    path, calls = tmp_path / "run.jsonl", Counter[str]()

    async def work(subtask: Any) -> str:
        calls[subtask.prompt] += 1
        return f"result {subtask.prompt}"

    def sprint(*prompts: str, fault: Fault | None = None) -> Sprint[Any, Any]:
        replies = {"": Reply(plan(*prompts), fault=fault), "</Execution_1>": answer("done")}
        return Sprint(FakeEngine(replies, latency=Latency(token=1)), executor=work)

    with pytest.raises(EngineUnavailable):
        run_virtual(sprint("a", "b", "c", fault=Fault.drop(after=35)).run("question", journal=path))
    assert calls == {"a": 1, "b": 1}
    run = run_virtual(sprint("a", "x", "c").run("question", journal=path))
    assert calls == {"a": 1, "b": 1, "x": 1, "c": 1}
    assert run.stages[0].results == ["result a", "result x", "result c"]


def test_a_policy_that_yields_another_plan_is_refused(tmp_path: Path) -> None:
    """A policy that reads the clock, or draws lots."""
    prompts = iter(["first", "second", "first"])

    async def policy(planning):
        yield Plan.of("same", next(prompts))
        yield planning.ask()

    engine = FakeEngine({"": "result", "</Execution_1>": Reply("", fault=Fault.drop())})
    sprint, path = Sprint(engine, policy=policy), tmp_path / "run.jsonl"
    with pytest.raises(EngineUnavailable):
        run_virtual(sprint.run("question", journal=path))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]))  # header and executions, not their join
    with pytest.raises(JournalError, match=r"step 1 is not the one .*: subtask 2 is 'second', and was 'first'"):
        run_virtual(sprint.run("question", journal=path))
    requests = engine.account().started
    with pytest.raises(EngineUnavailable):
        run_virtual(sprint.run("question", journal=path))
    assert engine.account().started == requests + 1


def test_a_policy_that_asks_for_something_else_is_refused(tmp_path: Path) -> None:
    forms = iter(["plan", "chain"])

    async def policy(planning):
        yield planning.ask(next(forms))

    engine = FakeEngine({"": plan("a"), "<execution_1.": Reply("", fault=Fault.drop())})
    sprint, path = Sprint(engine, policy=policy, failure="fail_fast"), tmp_path / "run.jsonl"
    with pytest.raises(ExecutionFailed):
        run_virtual(sprint.run("question", journal=path))
    with pytest.raises(JournalError, match="it is 'chain', and was 'plan'"):
        run_virtual(sprint.run("question", journal=path))


def test_a_journal_of_the_second_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    header = b'{"journal":2,"run_id":"a","task":"question","policy":"interleaved","settings":{}}'
    path.write_bytes(b'{"crc32":"%08x","record":%b}\n' % (zlib.crc32(header), header))
    with pytest.raises(JournalError, match="was written by an older version of this library"):
        run_virtual(Sprint(FakeEngine("unused")).run("question", journal=path))


@pytest.mark.parametrize("content", [b"my notes", b"{}", b'{"crc33', b"\xef\xbb\xbfnotes", b"\n"])
def test_a_file_that_is_no_journal_is_left_alone(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(JournalError, match="is not a journal, or is damaged"):
        run_virtual(Sprint(FakeEngine("unused")).run("question", journal=path))
    assert path.read_bytes() == content


def test_a_full_disk_leaves_a_journal_that_can_be_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, calls = tmp_path / "run.jsonl", Counter[str]()

    async def work(subtask: Any) -> str:
        calls[subtask.prompt] += 1
        if calls.total() == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 40, resource.RLIM_INFINITY))
        return f"result {subtask.prompt}"

    sprint = Sprint(FakeEngine(WIDE), executor=work, limits=Limits(concurrency=1))
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(JournalError, match="cannot be read and written") as caught:
            run_virtual(sprint.run("question", journal=path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        signal.signal(signal.SIGXFSZ, before)
    assert caught.value.run.stages[0].results == ["result 0", "result 1", "result 2"]
    assert run_virtual(sprint.run("question", journal=path)).answer == "done"
    assert calls == {str(number): 1 + (number == 2) for number in range(WIDTH)}


def logged(folder: Path) -> Any:
    async def work(subtask: Any) -> str:
        with (folder / "calls.txt").open("a") as file:
            file.write(f"{subtask.prompt}\n")
        await asyncio.sleep(random.random() / 100)
        return f"result {subtask.prompt}"

    return work


def solve(folder: Path) -> None:
    """Run in another process; its work takes about a fifth of a second."""
    engine = FakeEngine(WIDE, latency=Latency(token=0.0002))
    sprint = Sprint(engine, executor=logged(folder), limits=Limits(concurrency=4))
    run = sprint.run_sync("question", journal=folder / "run.jsonl")
    (folder / "transcript.txt").write_text(run.transcript)


@pytest.mark.reported("langchain-ai/langgraph#6718")
def test_killed_processes_lose_nothing_and_repeat_only_what_was_running(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    kills = 0
    while True:
        process = context.Process(target=solve, args=(tmp_path,))
        process.start()
        process.join(0.05 + random.random() / 5 if kills < 8 else 60)
        if process.exitcode is not None:
            break
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        kills += 1
    assert process.exitcode == 0
    calls = Counter((tmp_path / "calls.txt").read_text().split())
    assert set(calls) == set(map(str, range(WIDTH)))
    assert calls.total() <= WIDTH + 4 * kills  # four run at a time
    assert (tmp_path / "transcript.txt").read_text() == whole(logged(tmp_path)).transcript


def resume_elsewhere(folder: Path) -> None:
    engine = FakeEngine(WIDE)
    run = Sprint(engine, executor=logged(folder)).run_sync("question", journal=folder / "run.jsonl")
    assert run.answer == "done"
    assert engine.account().started == 0


@pytest.mark.reported("langchain-ai/langgraph#6718")
def test_another_process_resumes_a_journal_of_the_fake_engine(tmp_path: Path) -> None:
    Sprint(FakeEngine(WIDE), executor=logged(tmp_path)).run_sync("question", journal=tmp_path / "run.jsonl")
    process = multiprocessing.get_context("spawn").Process(target=resume_elsewhere, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == 0


def test_a_slow_disk_does_not_keep_the_journal_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancelled run leaves a thread that waits for the disk; the next run can open the journal at once."""
    started, release, sync = threading.Event(), threading.Event(), os.fsync

    def slow(file: int) -> None:
        copy = os.dup(file)  # as the system call in progress does, this holds the file open after it was closed
        started.set()
        release.wait(60)
        sync(copy)
        os.close(copy)

    async def cancelled() -> None:
        task = asyncio.create_task(Sprint(FakeEngine(WIDE)).run("question", journal=tmp_path / "run.jsonl"))
        await asyncio.to_thread(started.wait, 60)
        task.cancel()
        await asyncio.wait([task])

    monkeypatch.setattr(os, "fsync", slow)
    asyncio.run(cancelled())
    monkeypatch.setattr(os, "fsync", sync)
    try:
        assert run_virtual(Sprint(FakeEngine(WIDE)).run("question", journal=tmp_path / "run.jsonl")).answer == "done"
    finally:
        release.set()
