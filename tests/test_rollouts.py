"""The token ids of runs: each generated token is sampled once, in the branch of the model call that generated it."""

from dataclasses import replace
from typing import Any

import pytest

from sprint_agents import Answer, Executor, Plan, Planner, Run, Sprint
from sprint_agents.context import Context
from sprint_agents.engine import Capabilities, Chunk, Finish, Request
from sprint_agents.errors import ConfigurationError, run_of
from sprint_agents.rollouts import Rollout, RolloutRecorder
from sprint_agents.testing import FakeEngine, Fault, Reply

TASK = "What is 6*7 + 100/4?"
SCRIPT = {
    "": "<Plan_1>\nBoth.\n<prompt_1.1>6*7</prompt_1.1>\n<prompt_1.2>100/4</prompt_1.2>\n</Plan_1>",
    "<execution_1.1>": "42",
    "<execution_1.2>": "25",
    "</Execution_1>": r"<Final_answer>\boxed{67}</Final_answer>",
}


def recorded(script: Any, **settings: Any) -> tuple[Run[Any, Any], Rollout]:
    recorder = RolloutRecorder(FakeEngine(script))
    run = Sprint(recorder, **settings).run_sync(TASK)
    return run, recorder.rollout(run)


def sampled(rollout: Rollout) -> int:
    return sum(sum(branch.mask) for branch in rollout.branches)


def test_a_run_has_a_branch_for_its_planner_and_one_for_each_executor() -> None:
    run, rollout = recorded(SCRIPT)
    assert [(branch.role, branch.stage, branch.number) for branch in rollout.branches] == [
        ("planner", 1, None),
        ("executor", 1, 1),
        ("executor", 1, 2),
    ]
    assert sampled(rollout) == run.usage.total_tokens
    assert (rollout.run_id, rollout.answer, rollout.missing) == (run.id, "67", 0)
    planner, first, second = rollout.branches
    assert planner.text == run.transcript
    assert [piece.sampled for piece in planner.pieces] == [False, True, False, True]
    assert "100/4" not in first.text.removeprefix(TASK)  # an executor reads the plan up to its own prompt
    assert second.text.startswith(f"{TASK}\n<Plan_1>\nBoth.\n<prompt_1.1>6*7</prompt_1.1>\n<prompt_1.2>100/4</prompt_")
    assert [piece.text for piece in second.pieces if piece.sampled] == ["25"]
    for branch in rollout.branches:
        assert len(branch.ids) == len(branch.mask)
        assert branch.logprobs == [0.0] * len(branch.ids)  # this engine is always sure
    assert all(stage.logprobs == () for stage in run.stages)  # the run did not ask for them


def test_what_an_executor_wrote_is_context_for_the_planner() -> None:
    _, rollout = recorded(SCRIPT)
    planner, first, second = rollout.branches
    joined = planner.pieces[2]
    assert not joined.sampled
    for executor in (first, second):
        ids = executor.pieces[-1].ids
        assert any(joined.ids[start : start + len(ids)] == ids for start in range(len(joined.ids)))


def test_a_corrected_result_continues_its_branch() -> None:
    replies = iter(["many", "42"])
    script = {**SCRIPT, "<execution_1.1>": lambda _: next(replies)}
    run, rollout = recorded(script, executor=Executor(int, attempts=2))
    (corrected,) = [branch for branch in rollout.branches if branch.number == 1]
    assert [piece.text.removesuffix("</execution_") for piece in corrected.pieces if piece.sampled] == ["many", "42"]
    assert sampled(rollout) == run.usage.total_tokens


def test_a_sprint_in_an_execution_has_branches_of_its_own() -> None:
    inner_script = {
        "": "<Plan_1>\n<prompt_1.1>add</prompt_1.1>\n</Plan_1>",
        "<execution_1.1>": "7",
        "</Execution_1>": r"<Final_answer>\boxed{7}</Final_answer>",
    }
    recorder = RolloutRecorder(FakeEngine(inner_script))

    async def policy(planning: Any) -> Any:
        stage = yield Plan.of("first", "second")
        yield Answer(value=sum(stage.results))

    sprint = Sprint(recorder, policy=policy, planner=Planner(int), executor=Sprint(recorder, planner=Planner(int)))
    run = sprint.run_sync(TASK)
    rollout = recorder.rollout(run)
    assert run.answer == 14
    assert [branch.role for branch in rollout.branches] == ["planner", "executor"] * 2
    assert sampled(rollout) == run.usage.total_tokens


def test_a_rollout_is_taken_once_and_other_runs_stay() -> None:
    recorder = RolloutRecorder(FakeEngine(SCRIPT))
    sprint = Sprint(recorder)
    first, second = sprint.run_sync(TASK), sprint.run_sync(TASK)
    recorder.rollout(first)
    with pytest.raises(ConfigurationError, match="take each run once"):
        recorder.rollout(first)
    assert len(recorder.rollout(second).branches) == 3


def test_a_failed_run_has_what_was_finished() -> None:
    script = {**SCRIPT, "</Execution_1>": Reply("", fault=Fault.drop())}
    recorder = RolloutRecorder(FakeEngine(script))
    with pytest.raises(Exception) as caught:  # noqa: PT011
        Sprint(recorder).run_sync(TASK)
    run = run_of(caught.value)
    assert run is not None
    rollout = recorder.rollout(run)
    assert rollout.error == run.error
    assert len(rollout.branches) == 3
    assert [piece.sampled for piece in rollout.branches[0].pieces] == [False, True]


def test_what_a_journal_supplied_is_counted_as_missing(tmp_path: Any) -> None:
    script = {**SCRIPT, "</Execution_1>": Reply("", fault=Fault.drop())}
    with pytest.raises(Exception):  # noqa: B017, PT011
        Sprint(FakeEngine(script)).run_sync(TASK, journal=tmp_path / "run.jsonl")
    recorder = RolloutRecorder(FakeEngine(SCRIPT))
    run = Sprint(recorder).run_sync(TASK, journal=tmp_path / "run.jsonl")
    rollout = recorder.rollout(run)
    assert rollout.missing == 3
    (planner,) = rollout.branches
    assert planner.text == run.transcript
    assert [piece.sampled for piece in planner.pieces] == [False, True]


def test_a_typed_answer_is_json() -> None:
    _, rollout = recorded({"": r"<Final_answer>\boxed{67}</Final_answer>"}, planner=Planner(int))
    assert rollout.answer == "67"
    assert Rollout.model_validate_json(rollout.model_dump_json()) == rollout


class Silent(FakeEngine):
    """An engine without log-probabilities."""

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, logprobs=False)


def test_an_engine_without_log_probabilities_has_none() -> None:
    recorder = RolloutRecorder(Silent(SCRIPT))
    rollout = recorder.rollout(Sprint(recorder).run_sync(TASK))
    assert [branch.logprobs for branch in rollout.branches] == [None] * 3


class Texts(FakeEngine):
    """An engine whose ids are not tokens, so that it counts them itself."""

    async def complete(self, request: Request) -> Any:
        yield Chunk((1, 2), r"<Final_answer>\boxed{1}</Final_answer>", Finish("stop", None, 5, 0, generated_tokens=9))


def test_an_engine_that_shows_no_token_ids_is_refused() -> None:
    recorder = RolloutRecorder(Texts(""))
    run = Sprint(recorder).run_sync(TASK)
    with pytest.raises(ConfigurationError, match="does not show token ids"):
        recorder.rollout(run)


def test_a_context_that_was_written_anew_begins_a_branch() -> None:
    """Templates of reasoning models drop earlier thoughts, so the next request does not continue the last one."""
    recorder = RolloutRecorder(FakeEngine(SCRIPT))
    run = Sprint(recorder).run_sync(TASK)
    last = run.stages[-1].calls[0].request_ids[0]
    kept = recorder._recorded[last]  # pyright: ignore[reportPrivateUsage]
    kept.request.context = Context().extend([1, 2, 3], "the plan without its thoughts")
    planners = [branch for branch in recorder.rollout(run).branches if branch.role == "planner"]
    assert [[piece.sampled for piece in branch.pieces] for branch in planners] == [[False, True], [False, True]]
