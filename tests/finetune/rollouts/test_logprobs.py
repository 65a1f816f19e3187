"""The model itself, reading a recorded branch at once, gives each sampled token the recorded log-probability."""

import asyncio

import pytest
import torch
from transformers import AutoModelForCausalLM

from sprint_agents import Sampling, Sprint
from sprint_agents.engines import LocalEngine
from sprint_agents.nano import nano_path
from sprint_agents.rollouts import Rollout, RolloutRecorder

pytestmark = pytest.mark.local


async def rollout_of(task: str) -> Rollout:
    async with RolloutRecorder(LocalEngine(nano_path())) as recorder:
        run = await Sprint(recorder, sampling=Sampling(temperature=1, seed=1)).run(task)
        assert all(stage.logprobs == () for stage in run.stages)  # the run did not ask for them
        rollout = recorder.rollout(run)
        assert sum(sum(branch.mask) for branch in rollout.branches) == run.usage.total_tokens
        return rollout


def test_log_probabilities_are_those_of_the_ids() -> None:
    rollout = asyncio.run(rollout_of("countdown 3 7 25 46"))
    assert len(rollout.branches) > 2
    model = AutoModelForCausalLM.from_pretrained(nano_path(), dtype=torch.float32)
    for branch in rollout.branches:
        ids = torch.tensor([branch.ids])
        with torch.inference_mode():
            logprobs = model(ids).logits[0, :-1].float().log_softmax(-1)
        of_next = logprobs.gather(1, ids[0, 1:, None])[:, 0]
        mask = torch.tensor(branch.mask[1:])
        assert branch.logprobs is not None
        torch.testing.assert_close(torch.tensor(branch.logprobs[1:])[mask], of_next[mask], atol=2e-3, rtol=1e-3)
