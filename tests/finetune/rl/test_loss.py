"""The loss of a rollout: the model's own log-probabilities of what was sampled, over the run's trie."""

import asyncio

import pytest
import torch

from sprint_agents import Sampling, Sprint
from sprint_agents.engines import LocalEngine
from sprint_agents.errors import ConfigurationError
from sprint_agents.rollouts import RolloutRecorder
from sprint_finetune.rl import Scored
from sprint_finetune.rl.loss import batches_of, edge_logprobs, policy_loss, row_of, rows_of
from sprint_finetune.training.checkpoints import load_model

from .conftest import PROBLEM

pytestmark = pytest.mark.local


@pytest.fixture(scope="module")
def rollouts(tiny):
    async def main():
        async with RolloutRecorder(LocalEngine(tiny)) as recorder:
            made = []
            for seed in range(6):
                run = await Sprint(recorder, sampling=Sampling(temperature=1, seed=seed)).run(PROBLEM)
                made.append(recorder.rollout(run))
            return made

    return asyncio.run(main())


def test_before_an_update_all_ratios_are_one(tiny, rollouts):
    model = load_model(str(tiny), dtype=torch.float32)
    rows = [row for rollout in rollouts if (row := row_of(rollout, 2.0))]
    sampled = sum(sum(sum(branch.mask) for branch in rollout.branches) for rollout in rollouts)
    assert sum(len(row.trie.weights) for row in rows) == sampled
    losses = 0.0
    for batch, gains in batches_of(rows, padding=1, row_tokens=400):
        logprobs = edge_logprobs(model, batch, config=model.config)
        mine = batch["weights"] > 0
        torch.testing.assert_close(logprobs[mine], 1 - batch["weights"][mine], atol=2e-3, rtol=1e-3)
        losses += float(policy_loss(logprobs, batch["weights"], gains, clip=0.2).detach())
    assert losses == pytest.approx(-2.0 * sampled, rel=1e-2)


def test_a_step_makes_runs_with_an_advantage_likelier_and_the_others_less_likely(tiny, rollouts):
    for gain in (1.0, -1.0):
        model = load_model(str(tiny), dtype=torch.float32)
        row = row_of(rollouts[0], gain)
        assert row is not None
        ((batch, gains),) = batches_of([row], padding=1, row_tokens=400)
        before = edge_logprobs(model, batch, config=model.config)
        policy_loss(before, batch["weights"], gains, clip=0.2).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter -= 1e-4 * parameter.grad
        after = edge_logprobs(model, batch, config=model.config)
        assert (after.sum() > before.sum()) == (gain > 0)


def test_policy_gradients_need_log_probabilities(rollouts):
    bare = rollouts[0].model_copy(
        update={
            "branches": tuple(
                branch.model_copy(
                    update={"pieces": tuple(piece.model_copy(update={"logprobs": ()}) for piece in branch.pieces)}
                )
                for branch in rollouts[0].branches
            )
        }
    )
    scored = Scored(problem=0, member=0, right=True, seconds=1.0, tokens=9, width=1, rollout=bare)
    with pytest.raises(ConfigurationError, match="returned no log-probabilities"):
        rows_of([(scored, 1.0)], needs_logprobs=True)
    assert len(rows_of([(scored, 1.0)], needs_logprobs=False)) == 1
