from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sprint_agents.engine import Sampling
from sprint_agents.engines.local.sampling import Sampler, sample

pytestmark = pytest.mark.local

LOGITS = torch.tensor([[0.0, 3.0, 1.0, 2.0, -4.0]])


def tokens(sampling: Sampling, *, count: int, logits: torch.Tensor = LOGITS) -> list[int]:
    sampler = Sampler(sampling)
    return [sample(logits, [sampler])[0] for _ in range(count)]


@pytest.mark.parametrize("sampling", [Sampling(temperature=0), Sampling(temperature=1e-30), Sampling(top_k=1)])
def test_greedy_takes_the_likeliest(sampling: Sampling) -> None:
    assert tokens(sampling, count=3) == [1, 1, 1]


def test_tokens_come_as_often_as_their_probabilities_say() -> None:
    count = 4000
    found = Counter(tokens(Sampling(temperature=1.0, seed=1), count=count))
    for token, probability in enumerate(torch.softmax(LOGITS[0], -1).tolist()):
        assert abs(found[token] / count - probability) < 4 * (probability / count) ** 0.5 + 1e-3


@pytest.mark.parametrize(
    ("sampling", "possible"),
    [
        (Sampling(temperature=9, top_k=2, seed=3), {1, 3}),
        (Sampling(temperature=9, top_k=99, seed=3), {0, 1, 2, 3, 4}),
        (Sampling(temperature=1, top_p=0.6, seed=3), {1}),  # probabilities .64 .24 .09 .03 .001
        (Sampling(temperature=1, top_p=0.7, seed=3), {1, 3}),
        (Sampling(temperature=1, top_p=0.8, top_k=3, seed=3), {1, 3}),
        (Sampling(temperature=1, top_p=1e-9, seed=3), {1}),
    ],
)
def test_only_what_top_k_and_top_p_leave_is_drawn(sampling: Sampling, possible: set[int]) -> None:
    assert set(tokens(sampling, count=300)) == possible


def test_a_seed_repeats_and_another_differs() -> None:
    flat = torch.zeros(1, 50)
    first = tokens(Sampling(temperature=1, seed=5), count=20, logits=flat)
    assert first == tokens(Sampling(temperature=1, seed=5), count=20, logits=flat)
    assert first != tokens(Sampling(temperature=1, seed=6), count=20, logits=flat)
    assert tokens(Sampling(temperature=1), count=20, logits=flat) != tokens(
        Sampling(temperature=1), count=20, logits=flat
    )


samplings = st.builds(
    Sampling,
    temperature=st.sampled_from([0, 0.3, 1.0, 2.0]),
    top_p=st.sampled_from([0.3, 0.9, 1.0]),
    top_k=st.sampled_from([None, 1, 3]),
    seed=st.integers(0, 9),
)


@given(st.lists(samplings, min_size=1, max_size=5), st.integers(0, 99))
def test_a_sequence_draws_the_same_whatever_runs_beside_it(batch: list[Sampling], seed: int) -> None:
    logits = torch.randn(len(batch), 30, generator=torch.Generator().manual_seed(seed))
    alone = [sample(logits[row : row + 1], [Sampler(sampling)])[0] for row, sampling in enumerate(batch)]
    assert sample(logits, [Sampler(sampling) for sampling in batch]) == alone
