"""verifiers reads the traces that `sprint-finetune export` writes, and sees each sampled token once."""

from pathlib import Path

import pytest

from sprint_agents import Sprint
from sprint_agents.rollouts import Rollout, RolloutRecorder
from sprint_agents.testing import FakeEngine, Fault, Reply
from sprint_finetune.rollouts import write_episodes

SCRIPT = {
    "": "<Plan_1>\n<prompt_1.1>6*7</prompt_1.1>\n<prompt_1.2>100/4</prompt_1.2>\n</Plan_1>",
    "<execution_1.1>": "42",
    "<execution_1.2>": "25",
    "</Execution_1>": r"<Final_answer>\boxed{67}</Final_answer>",
}


def rollout_of(script: object) -> Rollout:
    recorder = RolloutRecorder(FakeEngine(script))  # pyright: ignore[reportArgumentType]
    sprint = Sprint(recorder, checker=lambda answer: answer == "67")
    try:
        return recorder.rollout(sprint.run_sync("6*7 + 100/4?"))
    except Exception as error:
        return recorder.rollout(error.run)  # pyright: ignore[reportAttributeAccessIssue]


def read(rollouts: list[Rollout], folder: Path) -> list[object]:
    from verifiers.v1.trace import WireTrace
    from verifiers.v1.utils.trace_store import read_episodes

    assert write_episodes(rollouts, folder) == len(rollouts)
    return read_episodes(folder, WireTrace)


def test_branches_are_training_samples(tmp_path: Path) -> None:
    rollout = rollout_of(SCRIPT)
    (episode,) = read([rollout], tmp_path)
    (trace,) = episode.traces  # pyright: ignore[reportAttributeAccessIssue]
    assert (episode.ok, trace.reward, trace.last_reply) == (True, 1.0, "67")  # pyright: ignore[reportAttributeAccessIssue]
    assert trace.task.data.prompt == "6*7 + 100/4?"
    assert len(trace.branches) == len(rollout.branches) == 3
    for sample, branch in zip(trace.branches, rollout.branches, strict=True):
        # What prime-rl makes of a trace: one sample for each branch, of these three.
        assert sample.trainable
        assert (sample.token_ids, sample.sampled_mask) == (branch.ids, branch.mask)
        assert sample.logprobs == pytest.approx(branch.logprobs, abs=1e-4)
    assert sum(sum(sample.sampled_mask) for sample in trace.branches) == rollout.usage.total_tokens
    assert trace.usage.completion_tokens == rollout.usage.total_tokens
    assert trace.metrics["width"] == 2


def test_a_failed_run_is_not_ok(tmp_path: Path) -> None:
    (episode,) = read([rollout_of({**SCRIPT, "</Execution_1>": Reply("", fault=Fault.drop())})], tmp_path)
    (trace,) = episode.traces  # pyright: ignore[reportAttributeAccessIssue]
    assert trace.has_error
    assert trace.last_error.type == "EngineUnavailable"
