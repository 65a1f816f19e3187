from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sprint_agents.engine import Sampling
from sprint_agents.engines.local.sampling import Sampler, draw, sample

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
        (Sampling(temperature=1, min_p=0.3, seed=3), {1, 3}),  # .24 is more than 0.3 of .64, .09 is not
        (Sampling(temperature=1, top_k=3, min_p=0.1, seed=3), {1, 2, 3}),
        (Sampling(temperature=9, top_k=2, min_p=1, seed=3), {1}),
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


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(presence_penalty=1), [0.0, 2.0, 1.0, 1.0, -5.0]),
        (Sampling(frequency_penalty=1), [0.0, 1.0, 1.0, 1.0, -5.0]),
        (Sampling(repetition_penalty=2), [0.0, 1.5, 1.0, 1.0, -8.0]),
        (Sampling(repetition_penalty=2, presence_penalty=1, frequency_penalty=1), [0.0, -1.5, 1.0, -1.0, -10.0]),
        (Sampling(logit_bias={0: 5, 4: -100}), [5.0, 3.0, 1.0, 2.0, -104.0]),
        (Sampling(), [0.0, 3.0, 1.0, 2.0, -4.0]),
    ],
)
def test_penalties_count_what_was_written(sampling: Sampling, expected: list[float]) -> None:
    logits = LOGITS[0].clone()
    sampler = Sampler(sampling, written=[1, 3, 1, 4])
    if sampler.adjusts:
        sampler.adjust(logits)
    assert logits.tolist() == expected


def test_a_drawn_token_counts_for_the_next_one() -> None:
    sampler = Sampler(Sampling(temperature=0, presence_penalty=1.5, logprobs=1))
    drawn = [draw(LOGITS.clone(), [(sampler, None)])[0] for _ in range(3)]
    assert [token for token, _ in drawn] == [1, 3, 1]
    assert all(logprobs[0].top == ((1, pytest.approx(-0.441, abs=1e-3)),) for _, logprobs in drawn)
