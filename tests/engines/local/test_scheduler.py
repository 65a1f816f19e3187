import pytest

from sprint_agents.context import Context
from sprint_agents.engine import Request, Sampling
from sprint_agents.engines.local.loading import load_model
from sprint_agents.engines.local.scheduler import Scheduler
from sprint_agents.engines.local.sequence import TokenSequence

pytestmark = pytest.mark.local


@pytest.fixture
def scheduler(checkpoint, byte_tokenizer) -> Scheduler:
    model = load_model(checkpoint, device="cpu", dtype=None)
    return Scheduler(model, byte_tokenizer, cache_tokens=None, prefill_chunk=10, max_running=100)


def submit(scheduler: Scheduler, ids: list[int], *, tokens: int) -> TokenSequence:
    request = Request(id="", context=Context(), max_tokens=tokens, sampling=Sampling(temperature=0))
    return scheduler.submit(request, [*ids])


def finish(scheduler: Scheduler, *sequences: TokenSequence) -> None:
    ended: set[TokenSequence] = set()
    while not ended.issuperset(sequences):
        ended |= {sequence for sequence, output in scheduler.step() if output.finish}


def test_a_long_prompt_does_not_stall_decoding(scheduler: Scheduler) -> None:
    early = submit(scheduler, [5, 6], tokens=100)
    scheduler.step()
    late = submit(scheduler, [*range(10, 110)], tokens=1)
    gained = 0
    while len(late.tokens) == 100:
        outputs = dict(scheduler.step())
        gained += len(outputs[early].tokens)
    assert gained == 10  # the late one's 100 tokens come in chunks of 10, and each step decodes


def test_short_prompts_are_computed_in_one_step(scheduler: Scheduler) -> None:
    sequences = [submit(scheduler, [first, 5], tokens=2) for first in range(10, 14)]
    assert {sequence for sequence, _ in scheduler.step()} == {*sequences}


def test_only_the_branches_of_a_common_prefix_wait_for_it(scheduler: Scheduler) -> None:
    prefix = [*range(50, 80)]
    leader = submit(scheduler, [*prefix, 1], tokens=1)
    follower = submit(scheduler, [*prefix, 2], tokens=1)
    partly = submit(scheduler, [*prefix[:10], 3], tokens=1)
    other = submit(scheduler, [9], tokens=1)
    scheduler.step()
    assert [*scheduler.waiting] == [follower, partly]
    scheduler.step()
    assert [*scheduler.waiting] == [follower]
    assert other.computed == 1
    finish(scheduler, leader, follower)
    assert (leader.cached_tokens, partly.cached_tokens, follower.cached_tokens) == (0, 10, 30)


def test_a_leader_that_stops_is_replaced(scheduler: Scheduler) -> None:
    prefix = [*range(50, 80)]
    leader, *followers = [submit(scheduler, [*prefix, last], tokens=1) for last in range(3)]
    scheduler.step()
    scheduler.remove(leader)
    finish(scheduler, *followers)
    assert [sequence.cached_tokens for sequence in followers] == [10, 30]


def test_a_conversation_becomes_one_range(scheduler: Scheduler) -> None:
    ids = [40]
    for _ in range(6):
        sequence = submit(scheduler, [*ids, 5, 6], tokens=10)
        finish(scheduler, sequence)
        ids = sequence.tokens
    node, length = scheduler.tree.match(ids)
    assert length == len(ids) - 1
    assert len(scheduler.tree.ranges(node)) == 1


def test_a_fork_stores_its_own_tokens_only(scheduler: Scheduler) -> None:
    prefix = [*range(50, 150)]
    finish(scheduler, submit(scheduler, prefix, tokens=0))
    assert scheduler.cache.tokens == 100
    forks = [submit(scheduler, [*prefix, last, 7], tokens=20) for last in range(4)]
    finish(scheduler, *forks)
    # Of 2 + 20 tokens the last one generated needs no keys.
    assert scheduler.cache.tokens == scheduler.tree.tokens == 100 + 4 * 21
