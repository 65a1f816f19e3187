"""The data of sprint-nano: its searches are right, and a call's ids are those of a run."""

import itertools

import pytest

from sprint_agents import Sprint, Trajectory
from sprint_agents.manifest import Manifest
from sprint_agents.testing import FakeEngine
from sprint_finetune.problems import problems, split_of
from sprint_finetune.samples import IGNORED, batches, encode
from sprint_finetune.search import LARGEST, explore
from sprint_finetune.tokenizer import build_tokenizer
from sprint_finetune.traces import NOTHING, chain, executors, planner


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="module")
def drawn():
    return list(itertools.islice(problems(seed=3, split="train", unsolvable=0.2), 60))


def text_of(call):
    return "".join(piece.text for piece in call.pieces)


def test_every_equation_of_a_trace_is_true(drawn):
    for task, stages in drawn:
        for exploration in itertools.chain.from_iterable(stages):
            for line in exploration.text.splitlines():
                for equation in line.split(" left ")[0].split(","):
                    if "=" in equation:
                        left, right = equation.split("=")
                        assert eval(left) == int(right) <= max(LARGEST, task.target)


def test_what_a_search_finds_is_an_answer(drawn):
    found = 0
    for task, stages in drawn:
        for exploration in itertools.chain.from_iterable(stages):
            if exploration.found:
                found += 1
                assert task.check(exploration.found)
    assert found > 20


def test_a_search_ends_with_the_stage_that_finds_an_answer(drawn):
    for _, stages in drawn:
        assert not any(exploration.found for stage in stages[:-1] for exploration in stage)


def test_an_exploration_ends_where_it_meets_the_target():
    exploration = explore((25, 7, 3), (1, "*", 2), 46)
    assert exploration.text == "7*3=21 left 25,21\n25+21=46\nfound 25+(7*3)\n"


def test_splits_depend_on_the_problem_alone(drawn):
    assert all(split_of(task) == "train" for task, _ in drawn)
    held_out = [task for task, _ in itertools.islice(problems(seed=3, split="held_out"), 10)]
    assert all(split_of(task) == "held_out" for task in held_out)
    shuffled = [task.model_copy(update={"numbers": tuple(reversed(task.numbers))}) for task in held_out]
    assert all(split_of(task) == "held_out" for task in shuffled)


def test_problems_are_a_function_of_their_seed():
    first, again, other = (
        [task for task, _ in itertools.islice(problems(seed=seed, split="train"), 5)] for seed in (1, 1, 2)
    )
    assert first == again != other


def test_a_planner_path_is_a_clean_trajectory_with_the_answer(drawn):
    for task, stages in drawn:
        trajectory = Trajectory.from_text(text_of(planner(task, stages)))
        assert trajectory.diagnostics == ()
        assert len(trajectory.stages) == len(stages)
        solvable = any(exploration.found for exploration in stages[-1])
        assert task.check(trajectory.answer) if solvable else trajectory.answer == NOTHING


def test_the_tokenizer_gives_back_any_text(tokenizer):
    for text in ("plain words, ünïcode ∑", "<Plan_1>\n<prompt_1.12>25-7</prompt_1.12>", "999 1000 0", " to make \t"):
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_tags_and_numbers_are_single_tokens(tokenizer):
    for text in ("</Plan_", "</prompt_", "</execution_", "</Final_answer>", "<think>", str(LARGEST), "none\n"):
        assert len(tokenizer.encode(text, add_special_tokens=False)) == 1


def test_pieces_encode_as_the_whole_text_does(tokenizer, drawn):
    for task, stages in drawn[:20]:
        for call in (chain(task, stages), planner(task, stages), *executors(task, stages)):
            whole = tokenizer.encode(text_of(call), add_special_tokens=False)
            assert encode(call, tokenizer).ids == whole


def test_an_executor_path_is_a_prefix_of_the_planners_and_its_header(tokenizer, drawn):
    for task, stages in drawn[:20]:
        path = encode(planner(task, stages), tokenizer).ids
        for call in executors(task, stages):
            *context, header, _ = call.pieces
            ids = tokenizer.encode("".join(piece.text for piece in context), add_special_tokens=False)
            assert path[: len(ids)] == ids
            assert header.text.startswith("\n<execution_")


def test_only_what_the_model_writes_is_learned(tokenizer, drawn):
    task, stages = drawn[0]
    for call in (chain(task, stages), planner(task, stages), next(executors(task, stages))):
        sample = encode(call, tokenizer)
        learned = tokenizer.decode([label for label in sample.labels if label != IGNORED])
        assert learned == "".join(piece.text for piece in call.pieces if piece.learned)


def test_batches_are_a_function_of_seed_and_step(tokenizer):
    def take(step):
        made = batches(tokenizer, seed=0, step=step, problems_per_step=2, tokens_per_batch=4096, mix="roles")
        return [(ids.tolist(), labels.tolist()) for ids, labels in made]

    assert take(7) == take(7) != take(8)


def test_a_run_asks_for_exactly_the_calls_that_were_trained(drawn):
    task, stages = next((task, stages) for task, stages in drawn if len(stages) == 2)
    calls = [planner(task, stages), *executors(task, stages)]
    written = {}
    for call in calls:
        context = ""
        for piece in call.pieces:
            if piece.learned:
                written[context] = piece.text
            context += piece.text

    seen = []

    def respond(prompt):
        seen.append(prompt.text)
        return written[prompt.text]

    engine = FakeEngine(respond, manifest=Manifest(model="nano", temperature=0))
    run = Sprint(engine).run_sync(task.prompt)
    assert run.transcript == text_of(calls[0])
    assert sorted(seen) == sorted(written)
    assert run.verified in (True, False)
