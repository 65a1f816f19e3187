"""The pipeline can be resumed at any point; no result is lost, repeated or requested twice."""

import asyncio
import json
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sprint_agents.errors import ConfigurationError, EngineUnavailable
from sprint_finetune.cli.traces import write_traces
from sprint_finetune.curation import (
    Criteria,
    CurationSettings,
    Rejection,
    Report,
    RuleExtractor,
    Sample,
    Trace,
    curate,
    from_jsonl,
)
from sprint_finetune.curation.records import Dag, Extraction
from sprint_finetune.curation.samples import split_of

STAGES = ("traces", "answers", "steps", "dags", "packed", "shapes", "samples")
HALF = CurationSettings(eval_share=0.5)


class Counting:
    """A rule extractor that records its calls and fails at the traces in ``fails``."""

    name = "counting"

    def __init__(self, *fails: str) -> None:
        self.asked: list[tuple[str, str]] = []
        self._fails = fails

    async def steps(self, trace: Trace) -> Extraction | Rejection:
        self.asked.append(("steps", trace.id))
        await asyncio.sleep(0)
        if trace.id in self._fails:
            raise EngineUnavailable("the server is gone")
        return await RuleExtractor().steps(trace)

    async def dag(self, trace: Trace, extraction: Extraction) -> Dag | Rejection:
        self.asked.append(("dag", trace.id))
        await asyncio.sleep(0)
        return await RuleExtractor().dag(trace, extraction)


@pytest.fixture
def source(make_trace) -> list[Trace | Rejection]:
    return [
        *(make_trace(f"t{number}", problem=f"How many of {number}?") for number in range(8)),
        make_trace("wrong", answer="13"),
        make_trace("silent", trace="No answer here.\nNone."),
        make_trace("serial", trace="One step.\nThe answer is \\boxed{12}."),
        Rejection(id="line-12", stage="read", reason="unreadable", detail="this is no JSON"),
        make_trace("t0"),
    ]


@pytest.fixture
def run(source, verifier):
    def call(folder: Path, **options) -> Report:
        given = {"extractor": RuleExtractor(), "verifier": verifier, "settings": HALF} | options
        return asyncio.run(curate(given.pop("source", source), folder, **given))

    return call


def samples(folder: Path) -> list[Sample]:
    lines = [line for split in ("train", "eval") for line in (folder / f"{split}.jsonl").read_text().splitlines()]
    return [Sample.model_validate_json(line) for line in lines]


def results(folder: Path) -> dict[str, bytes]:
    names = [
        "train.jsonl",
        "eval.jsonl",
        "sequential/train.jsonl",
        "sequential/eval.jsonl",
        "report.json",
        "report.html",
    ]
    return {name: (folder / name).read_bytes() for name in names}


def test_samples_and_rejections_are_all_there_is(run, tmp_path: Path, source) -> None:
    report = run(tmp_path)
    found = {sample.id: sample for sample in samples(tmp_path)}
    assert sorted(found) == [f"t{number}" for number in range(8)]
    assert {(count.stage, count.reason): count.count for count in report.rejected} == {
        ("read", "unreadable"): 1,
        ("read", "duplicate"): 1,
        ("answer", "wrong_answer"): 1,
        ("answer", "no_answer"): 1,
        ("filter", "low_ratio"): 1,
    }
    assert (report.traces, report.samples, report.lines) == (len(source), 8, 8 * 13)
    assert report.train + report.eval == 8
    for sample in found.values():
        assert sample.split == split_of(sample.problem, eval_share=0.5)
        assert (sample.shape.width, sample.shape.stages, sample.shape.violations) == (2, 2, ())
    twins = [json.loads(line) for line in (tmp_path / "sequential" / "train.jsonl").read_text().splitlines()]
    assert [(twin["id"], twin["text"]) for twin in twins] == [
        (sample.id, sample.chain) for sample in samples(tmp_path) if sample.split == "train"
    ]


def test_each_stage_has_one_line_for_each_trace_that_got_there(run, tmp_path: Path) -> None:
    run(tmp_path)
    ids = {
        name: [json.loads(line)["id"] for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
        for name in STAGES
    }
    assert [len(found) for found in ids.values()] == [13, 11, 9, 9, 9, 9, 8]
    assert all(len(found) == len({*found}) for found in ids.values())


def test_the_same_call_again_asks_nothing_and_changes_nothing(run, tmp_path: Path, verifier) -> None:
    first = Counting()
    report = run(tmp_path, extractor=first)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    again = Counting()
    verifier.asked.clear()
    assert run(tmp_path, extractor=again) == report
    assert (again.asked, verifier.asked) == ([], [])
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_order_and_concurrency_do_not_show_in_the_results(run, tmp_path: Path) -> None:
    run(tmp_path / "one", concurrency=1)
    run(tmp_path / "many", concurrency=16, extractor=RuleExtractor())
    assert results(tmp_path / "one") == results(tmp_path / "many")


def test_an_engine_that_fails_ends_the_run_and_the_next_one_goes_on(run, tmp_path: Path) -> None:
    failing = Counting("t5")
    with pytest.raises(EngineUnavailable, match="the server is gone"):
        run(tmp_path / "parts", extractor=failing, concurrency=2)
    going_on = Counting()
    run(tmp_path / "parts", extractor=going_on)
    run(tmp_path / "whole", extractor=Counting())
    assert results(tmp_path / "parts") == results(tmp_path / "whole")
    steps = [name for stage, name in failing.asked + going_on.asked if stage == "steps"]
    # Only requests that were running when the run ended are repeated.
    assert all(count == 1 for name, count in Counter(steps).items() if name not in ("t5", failing.asked[-1][1]))
    assert max(Counter(steps).values()) <= 2


def test_a_file_of_any_stage_cut_anywhere_is_made_whole(run, tmp_path_factory, make_trace) -> None:
    base = tmp_path_factory.mktemp("base")
    source = [make_trace(f"t{number}", problem=f"How many of {number}?") for number in range(3)]
    run(base, source=source)

    @settings(max_examples=30)
    @given(st.sampled_from(STAGES), st.floats(0, 1))
    def check(stage: str, share: float) -> None:
        folder = base.with_name("cut")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(base, folder)
        path = folder / f"{stage}.jsonl"
        content = path.read_bytes()
        path.write_bytes(content[: round(share * len(content))])
        run(folder, source=source)
        assert results(folder) == results(base)
        assert sorted(path.read_bytes().splitlines()) == sorted(content.splitlines())

    check()


PROGRAM = """
import asyncio, os, sys
from pathlib import Path
from sprint_finetune.curation import RuleExtractor, CurationSettings, curate, from_jsonl

class Logged(RuleExtractor):
    async def steps(self, trace):
        os.write(log, f"steps {trace.id}\\n".encode())
        for _ in range(3):
            await asyncio.sleep(0)
        return await super().steps(trace)

    async def dag(self, trace, extraction):
        os.write(log, f"dags {trace.id}\\n".encode())
        await asyncio.sleep(0)
        return await super().dag(trace, extraction)

folder = Path(sys.argv[1])
log = os.open(folder / "asked.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
source = from_jsonl(folder / "source.jsonl")
report = asyncio.run(curate(
    source, folder / "out", extractor=Logged(), settings=CurationSettings(eval_share=0.5), concurrency=3,
    on_progress=lambda progress: print(progress.done, flush=True),
))
print("finished", report.samples, flush=True)
"""


@pytest.mark.parametrize("kind", ["words", "own tasks"])
def test_killed_at_any_point_it_resumes_without_losing_doubling_or_asking_twice(
    tmp_path: Path, make_trace, run, kind: str
) -> None:
    if kind == "words":
        traces = [make_trace(f"t{number}", problem=f"How many of {number}?") for number in range(40)]
    else:
        for task in ("countdown", "multiplication"):
            write_traces(task, count=20, seed=5, split="train", slips=0, unsolvable=0, out=tmp_path / f"{task}.jsonl")
        read = [*from_jsonl(tmp_path / "countdown.jsonl"), *from_jsonl(tmp_path / "multiplication.jsonl")]
        traces = [trace for trace in read if isinstance(trace, Trace)]
        assert len(traces) == 40
    (tmp_path / "source.jsonl").write_text("".join(trace.model_dump_json() + "\n" for trace in traces))
    rng = random.Random(4)
    asked = Counter[str]()
    kills = 0
    for last in (False, False, False, True):
        with subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            done = done_so_far(tmp_path)
            for line in process.stdout:
                if not last and line.strip().isdigit() and int(line) >= len(done["samples"]) + rng.randint(1, 9):
                    process.kill()
                    kills += 1
                    break
            process.stdout.read()
        if last:
            assert process.returncode == 0
        log = Counter((tmp_path / "asked.log").read_text().splitlines())
        for question in log - asked:
            stage, name = question.split()
            assert name not in done[stage], f"{question} was answered before the last kill, and asked again"
        asked = log
    assert kills == 3
    # Requests that were running at a kill are repeated: one for each of the three traces.
    assert asked.total() <= 2 * len(traces) + 3 * kills
    run(tmp_path / "whole", source=traces, extractor=RuleExtractor())
    assert results(tmp_path / "out") == results(tmp_path / "whole")
    for stage in STAGES:
        lines = [json.loads(line)["id"] for line in (tmp_path / "out" / f"{stage}.jsonl").read_text().splitlines()]
        assert sorted(lines) == sorted(trace.id for trace in traces)


def done_so_far(folder: Path) -> dict[str, set[str]]:
    """The ids in the complete lines of each stage."""
    done: dict[str, set[str]] = {}
    for stage in STAGES:
        path = folder / "out" / f"{stage}.jsonl"
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        done[stage] = {json.loads(line)["id"] for line in lines if line.endswith(b"\n")}
    return done


def test_a_folder_belongs_to_one_source_extractor_and_settings(run, tmp_path: Path, make_trace) -> None:
    run(tmp_path)
    with pytest.raises(ConfigurationError, match="made with another extractor"):
        run(tmp_path, extractor=Counting())
    with pytest.raises(ConfigurationError, match="made with another criteria, eval_share"):
        run(tmp_path, settings=CurationSettings(criteria=Criteria(ratio=2.0)))
    with pytest.raises(ConfigurationError, match="'t0' has changed in the source"):
        run(tmp_path, source=[make_trace("t0", answer="14")])
    (tmp_path / "settings.json").write_text("no JSON")
    with pytest.raises(ConfigurationError, match=r"settings\.json is not a JSON"):
        run(tmp_path)


def test_two_processes_do_not_work_in_one_folder(run, tmp_path: Path, make_trace, verifier) -> None:
    pytest.importorskip("fcntl")

    class Nested(RuleExtractor):
        async def steps(self, trace: Trace) -> Extraction:
            with pytest.raises(ConfigurationError, match="another process is working"):
                await curate([], tmp_path, extractor=RuleExtractor(), settings=HALF, verifier=verifier)
            return await super().steps(trace)

    assert run(tmp_path, source=[make_trace("t0")], extractor=Nested()).samples == 1


def test_a_folder_that_cannot_be_made_is_an_error(run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        run(tmp_path / "file" / "out")


def test_progress_counts_every_trace_once(run, tmp_path: Path) -> None:
    seen: list[tuple[int, int, int]] = []
    run(tmp_path, on_progress=lambda progress: seen.append((progress.done, progress.total, progress.kept)))
    assert [done for done, _, _ in seen] == [*range(1, 14)]
    assert seen[-1] == (13, 13, 8)


@pytest.mark.parametrize(
    ("criteria", "reason"),
    [
        (Criteria(ratio=3.5), "low_ratio"),
        (Criteria(stages=1), "too_many_stages"),
        (Criteria(width=3), "not_parallel"),
        (Criteria(violations=0), None),
    ],
)
def test_the_criteria_decide(run, tmp_path: Path, make_trace, criteria: Criteria, reason: str | None) -> None:
    report = run(tmp_path, source=[make_trace("t0")], settings=CurationSettings(criteria=criteria))
    assert [count.reason for count in report.rejected] == ([reason] if reason else [])


def test_no_traces_are_no_error(run, tmp_path: Path) -> None:
    report = run(tmp_path, source=[])
    assert (report.traces, report.samples, report.sequential_share, report.ratios) == (0, 0, None, ())
