"""The traces of the built-in tasks become the trajectories that the trainer writes."""

import asyncio
import itertools
import json
import re
from collections import Counter
from pathlib import Path

import pytest

from sprint_finetune.curation import Criteria, CurationSettings, RuleExtractor, Sample, Style, Trace, curate
from sprint_finetune.curation.lines import lines_of
from sprint_finetune.curation.packing import pack
from sprint_finetune.curation.reformatting import trajectory_text
from sprint_finetune.curation.rules.rule_extractor import read_steps
from sprint_finetune.curation.samples import lines_changed
from sprint_finetune.curation.violations import violations_of
from sprint_finetune.nano import arithmetic, multiplication
from sprint_finetune.nano.batches import encode
from sprint_finetune.nano.countdown import PHASES, problems, solution_of
from sprint_finetune.nano.countdown_search import LARGEST, openings
from sprint_finetune.nano.tokenizer import build_tokenizer
from sprint_finetune.nano.traces import Solution, chain, complete, executors, planner
from sprint_finetune.training.calls import Call, Piece, calls_of
from sprint_finetune.training.encoding import encode_calls

PLAIN = Style(separators=False, basis=False, breaks=False)
ALL = Criteria(ratio=1, width=0, violations=0, share=9)
SHORTEST = 2
"""Lines of the shortest execution, an opening that leads nowhere."""
COUNT = 12
MANY = 100


def countdown(seed: int) -> list[Solution]:
    """Two problems of each kind: with 3 or 4 numbers, solved in the first stage, in the second, or not at all."""
    kinds: Counter[tuple[int, int, bool]] = Counter()
    works: list[Solution] = []
    for task, searched in problems(seed=seed, split="train", unsolvable=0.3):
        work = solution_of(task, searched)
        kind = (len(task.numbers), len(searched), work.solved)
        kinds[kind] += 1
        if kinds[kind] <= 2:
            works.append(work)
        if len(works) == COUNT:
            break
    return works


def worked_out(module, seed: int) -> list[Solution]:
    """Problems in which half of the operations go wrong at first and are corrected."""
    whole, slipping = (module.problems(seed=seed, split="train", slips=slips) for slips in (0.0, 0.3))
    return [*itertools.islice(whole, COUNT // 2), *itertools.islice(slipping, COUNT // 2)]


TASKS = {
    "countdown": countdown,
    "arithmetic": lambda seed: worked_out(arithmetic, seed),
    "multiplication": lambda seed: worked_out(multiplication, seed),
}


def trace_of(work: Solution, name: str) -> Trace:
    answer = work.answer.removeprefix("\\boxed{").removesuffix("}").strip()
    return Trace(id=name, problem=work.task.prompt, trace=complete(work), answer=answer)


def curated(works: list[Solution], folder: Path, verifier, **settings: object) -> dict[str, Sample]:
    """The samples that ``curate`` writes, by id. ``work-0`` belongs to the first problem."""
    traces = [trace_of(work, f"work-{number}") for number, work in enumerate(works)]
    given = CurationSettings.model_validate(
        {"criteria": ALL, "style": PLAIN, "shortest_execution": SHORTEST, **settings}
    )
    report = asyncio.run(curate(traces, folder, extractor=RuleExtractor(), settings=given, verifier=verifier))
    assert (report.rejected, report.violations) == ((), 0)
    names = [folder / f"{split}.jsonl" for split in ("train", "eval")]
    samples = [Sample.model_validate_json(line) for name in names for line in name.read_text().splitlines()]
    return {sample.id: sample for sample in samples}


def text_of(work: Solution) -> str:
    return "".join(piece.text for piece in planner(work).pieces)


@pytest.fixture(scope="module", params=TASKS)
def works(request: pytest.FixtureRequest) -> list[Solution]:
    return TASKS[request.param](11)


@pytest.fixture
def samples(works: list[Solution], tmp_path: Path, verifier) -> list[Sample]:
    found = curated(works, tmp_path, verifier)
    return [found[f"work-{number}"] for number in range(len(works))]


def test_the_drawn_problems_are_of_every_kind() -> None:
    searches, sums = countdown(11), worked_out(arithmetic, 11)
    kinds = {(len(work.task.numbers), len(work.stages), work.solved) for work in searches}  # type: ignore[attr-defined]
    assert {count for count, *_ in kinds} == {3, 4}
    assert {(stages, found) for _, stages, found in kinds} >= {(1, True), (2, True), (2, False)}
    assert max(len(work.stages) for work in sums) >= 3
    for works in (sums, worked_out(multiplication, 11)):
        assert any(not piece.learned for work in works for piece in chain(work).pieces[2:])


def test_the_pipeline_writes_the_trajectory_that_the_trainer_writes(
    works: list[Solution], samples: list[Sample]
) -> None:
    for work, sample in zip(works, samples, strict=True):
        assert sample.text == text_of(work)
        assert sample.shape.violations == ()


def test_the_calls_of_a_sample_are_those_of_the_trainer_token_for_token(
    works: list[Solution], samples: list[Sample]
) -> None:
    tokenizer = build_tokenizer()
    for work, sample in zip(works, samples, strict=True):
        direct = [planner(work), *executors(work)]
        cut = calls_of(sample.text, problem=sample.problem)
        assert [call.role for call in cut] == [call.role for call in direct]
        # A curated text does not mark slips, so only the trainer leaves them unlearned.
        subtasks = [subtask for stage in work.stages for subtask in stage.subtasks]
        slips = ["", *("".join(piece.text for piece in task.pieces if not piece.learned) for task in subtasks)]
        for read, call, slipped in zip(encode_calls(cut, tokenizer), direct, slips, strict=True):
            written = encode(call, tokenizer)
            assert read.ids == written.ids
            assert all(mine >= theirs for mine, theirs in zip(read.learned, written.learned, strict=True))
            pairs = zip(read.ids, read.learned, written.learned, strict=True)
            assert tokenizer.decode([token for token, mine, theirs in pairs if mine != theirs]) == slipped


@pytest.mark.parametrize("name", TASKS)
def test_a_hundred_problems_of_each_task_are_cut_as_they_were_made(name: str) -> None:
    """Extraction, packing, measures and writing without files, on more problems than above."""
    kinds = {"arithmetic": arithmetic, "multiplication": multiplication}
    if name == "countdown":
        drawn = (solution_of(*problem) for problem in problems(seed=23, split="train", unsolvable=0.2))
    else:
        drawn = kinds[name].problems(seed=23, split="train", slips=0.2)
    for work in itertools.islice(drawn, MANY):
        trace = trace_of(work, "t")
        packed = pack(*read_steps(trace), shortest=SHORTEST)
        text = trajectory_text(trace, packed, work.answer, style=PLAIN)
        assert text == text_of(work)
        assert violations_of(trace, packed) == ()
        assert not lines_changed(trace, packed, text)
        direct = [planner(work), *executors(work)]
        assert [whole(call) for call in calls_of(text)] == [whole(call) for call in direct]


def whole(call: Call) -> tuple[str, tuple[Piece, ...]]:
    """A call with the executor's text in one piece. The trainer cuts it at slips, which it does not learn."""
    if call.role == "planner":
        return call.role, call.pieces
    header = next(place for place, piece in enumerate(call.pieces) if piece.text.startswith("\n<execution_"))
    written = "".join(piece.text for piece in call.pieces[header + 1 :])
    return call.role, (*call.pieces[: header + 1], Piece(written, True))


def test_every_line_survives_and_only_the_signs_of_a_heading_go(works: list[Solution], samples: list[Sample]) -> None:
    for work, sample in zip(works, samples, strict=True):
        lines = lines_of(complete(work))
        kept = [line.rpartition(">")[2] for line in sample.text.splitlines()]  # tags do not have separate lines
        for line in (*lines.chain, *lines.conclusion):
            if line not in kept:
                asked = line.removeprefix("Now ").removesuffix(":")
                assert asked != line
                assert sample.text.count(f">{asked}</prompt_") == 1


def test_the_complete_trace_is_the_chain_and_the_siblings_that_it_left_out(works: list[Solution]) -> None:
    for work in works:
        text = complete(work)
        for stage in work.stages:
            assert all(subtask.heading + subtask.text in text for subtask in stage.subtasks)
        stopped = any(subtask.found for subtask in work.stages[-1].subtasks[:-1])
        thought = chain(work).pieces[2:]
        said = "".join(piece.text for piece in thought).partition("</think>")[0]
        assert (said == text.partition("</think>")[0]) is not stopped


def test_a_countdown_trace_explores_every_opening_of_the_stages_that_it_enters() -> None:
    for work in countdown(11):
        numbers = tuple(sorted(work.task.numbers, reverse=True))  # type: ignore[attr-defined]
        every = [openings(numbers, ops) for ops in PHASES]
        asked = [[subtask.prompt for subtask in stage.subtasks] for stage in work.stages]
        expected = [[f"{numbers[i]} {op} {numbers[j]}" for i, op, j in stage] for stage in every]
        assert asked == expected[: len(asked)]
        assert max(numbers) <= LARGEST


def test_short_executions_fold_into_plans_and_no_line_is_lost(works: list[Solution], tmp_path: Path, verifier) -> None:
    """With a higher minimum, short executions move into the plan, under their original heading."""
    sizes = [len(subtask.text.splitlines()) for work in works for stage in work.stages for subtask in stage.subtasks]
    shortest = min(sizes) + 1
    found = curated(works, tmp_path, verifier, shortest_execution=shortest)
    for number, work in enumerate(works):
        text = found[f"work-{number}"].text
        for subtask in (subtask for stage in work.stages for subtask in stage.subtasks):
            told = subtask.heading + subtask.text in text
            in_execution = f">\n{subtask.text}</execution_" in text
            short = len(subtask.text.splitlines()) < shortest
            assert (told, in_execution) == (short or not subtask.heading, not short)
    assert 0 < sum(size < shortest for size in sizes) < len(sizes)


def test_the_default_style_adds_separators_what_a_plan_builds_on_and_line_breaks(
    works: list[Solution], tmp_path: Path, verifier
) -> None:
    found = curated(works, tmp_path, verifier, style=Style())
    for number, work in enumerate(works):
        told = re.sub(r"Based on execution_.*\n|-----\n", "", found[f"work-{number}"].text)
        text = re.sub(r"(<Plan_\d+>|</prompt_[\d.]+>)\n", r"\1", told)
        assert text == text_of(work)


def test_the_reference_of_an_unsolvable_problem_is_what_its_trace_says(tmp_path: Path, verifier) -> None:
    work = next(work for work in countdown(11) if not work.solved)
    assert "\\boxed" not in curated([work], tmp_path, verifier)["work-0"].text
    assert json.loads((tmp_path / "answers.jsonl").read_text())["record"]["by"] == "text"
