"""The data of sprint-nano: properties of all traces, and a call's ids, which are those of a run."""

import itertools

import pytest

from sprint_agents import Sprint, Trajectory
from sprint_agents.testing import FakeEngine
from sprint_finetune.nano import arithmetic, multiplication
from sprint_finetune.nano.batches import batches, encode
from sprint_finetune.nano.countdown import NOTHING, problems, solution_of
from sprint_finetune.nano.countdown_search import LARGEST
from sprint_finetune.nano.export import NANO
from sprint_finetune.nano.splits import split_of
from sprint_finetune.nano.tokenizer import build_tokenizer
from sprint_finetune.nano.traces import chain, executors, planner


def countdown(*, seed, split):
    return (solution_of(task, searched) for task, searched in problems(seed=seed, split=split, unsolvable=0.2))


FAMILIES = {"countdown": countdown, "arithmetic": arithmetic.problems, "multiplication": multiplication.problems}


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="module", params=FAMILIES)
def draw(request):
    return FAMILIES[request.param]


@pytest.fixture(scope="module")
def drawn(draw):
    return list(itertools.islice(draw(seed=3, split="train"), 20))


def text_of(call):
    return "".join(piece.text for piece in call.pieces)


def calls_of(work):
    return [chain(work), planner(work), *executors(work)]


def test_splits_depend_on_the_problem_alone(draw, drawn):
    assert all(split_of(work.task) == "train" for work in drawn)
    held_out = list(itertools.islice(draw(seed=3, split="held_out"), 5))
    assert all(split_of(work.task) == "held_out" for work in held_out)
    assert all(split_of(type(work.task).parse(work.task.prompt)) == "held_out" for work in held_out)


def test_problems_are_a_function_of_their_seed(draw):
    first, again, other = (list(itertools.islice(draw(seed=seed, split="train"), 3)) for seed in (1, 1, 2))
    assert first == again != other


def test_a_planner_path_is_a_clean_trajectory_with_the_answer(drawn):
    for work in drawn:
        trajectory = Trajectory.from_text(text_of(planner(work)))
        assert trajectory.diagnostics == ()
        assert len(trajectory.stages) == len(work.stages)
        assert work.task.check(trajectory.answer) if work.solved else trajectory.answer == NOTHING


def test_the_chain_is_the_executors_words_in_order(drawn):
    for work in drawn:
        rest = text_of(chain(work))
        for stage in work.stages:
            assert stage.lead in rest
            for subtask in stage.subtasks:
                _, found, rest = rest.partition(subtask.heading + subtask.text)
                assert found
                if subtask.found:
                    break
        assert "</think>" in rest


def test_the_tokenizer_gives_back_any_text(tokenizer):
    for text in ("plain words, ünïcode ∑", "<Plan_1>\n<prompt_1.12>25-7</prompt_1.12>", "999 1000 0", " to make \t"):
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_tags_and_numbers_are_single_tokens(tokenizer):
    for text in ("</Plan_", "</prompt_", "</execution_", "</Final_answer>", "<think>", str(LARGEST), "none\n"):
        assert len(tokenizer.encode(text, add_special_tokens=False)) == 1


def test_pieces_encode_as_the_whole_text_does(tokenizer, drawn):
    for work in drawn:
        for call in calls_of(work):
            whole = tokenizer.encode(text_of(call), add_special_tokens=False)
            assert encode(call, tokenizer).ids == whole


def test_an_executor_path_is_a_prefix_of_the_planners_and_its_header(tokenizer, drawn):
    for work in drawn:
        path = encode(planner(work), tokenizer).ids
        for call in executors(work):
            *context, header, _ = call.pieces
            ids = tokenizer.encode("".join(piece.text for piece in context), add_special_tokens=False)
            assert path[: len(ids)] == ids
            assert header.text.startswith("\n<execution_")


def test_only_what_the_model_writes_is_learned(tokenizer, drawn):
    for call in calls_of(drawn[0]):
        sample = encode(call, tokenizer)
        written = [token for token, learned in zip(sample.ids, sample.learned, strict=True) if learned]
        assert tokenizer.decode(written) == "".join(piece.text for piece in call.pieces if piece.learned)


def test_a_batch_holds_the_families_that_it_is_told(tokenizer):
    def openings(families):
        made = batches(
            tokenizer, seed=0, step=0, problems_per_step=4, tokens_per_batch=4096, mix="chains", families=families
        )
        return {tokenizer.decode(row)[:3] for part in made for row in part["input_ids"]}

    assert openings({"multiplication": 1.0}) == {"Mul"}
    assert openings({"countdown": 0.0, "arithmetic": 1.0}) == {"Com"}


def test_a_run_asks_for_exactly_the_calls_that_were_trained(drawn):
    work = next(work for work in drawn if len(work.stages) >= 2)
    calls = [planner(work), *executors(work)]
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

    # At the limit of stages the runtime writes the answer's tag itself, which these calls leave to the model.
    engine = FakeEngine(respond, manifest=NANO.model_copy(update={"stages": 12}))
    run = Sprint(engine).run_sync(work.task.prompt)
    assert run.transcript == text_of(calls[0])
    assert sorted(seen) == sorted(written)
    assert run.verified is work.solved


def test_later_words_leave_the_ids_of_trained_models_alone(tokenizer):
    # Ids of the first vocabulary: its last phrase and last label, and the first word that was added later.
    ids = tokenizer.convert_tokens_to_ids(["<|end|>", "Use", "4.64>", "Now"])
    assert ids == [0, 738, 1017, 1018]
