"""The training batches of sprint-nano, step by step: each token sees exactly the ids that it sees in a run.

Each problem becomes some of its calls (see ``training.calls``). Paths that share a long beginning are read in one
trie. Short paths are read separately, because attention over several paths at once costs more.
"""

import itertools
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from sprint_agents.nano.tasks import Countdown
from sprint_finetune.training.calls import Call
from sprint_finetune.training.collation import Batch, Collator
from sprint_finetune.training.trie import Flattened, TokenPath, flatten

from . import arithmetic, multiplication
from .countdown import LARGEST_NUMBERS, TARGETS, problems, solution_of
from .countdown_guesses import solve
from .modes import GUESSES, Count, ended, guessed, in_quicker_mode, settled
from .splits import Family, split_of
from .traces import Solution, chain, executors, planner


def encode(call: Call, tokenizer: PreTrainedTokenizerBase) -> TokenPath:
    """Encode a call piece by piece, as the runtime does. A token has the weight of its piece."""
    encoded: list[list[int]] = tokenizer([piece.text for piece in call.pieces], add_special_tokens=False)["input_ids"]
    ids = list(itertools.chain.from_iterable(encoded))
    return TokenPath(ids, [piece.learned for piece, tokens in zip(call.pieces, encoded, strict=True) for _ in tokens])


Mix = Literal["chains", "roles", "settled", "endings", "modes"]
"""The form in which a problem is read.

``chains`` reads one sequential chain, ``roles`` the calls of a planned run and some chains, ``settled`` the same with
stages that end early as in runs of the checkpoint, ``endings`` the same with stages that end in all ways, and ``modes``
the calls of the quicker mode (see ``modes``).
"""

_COUNTS = (3, 4, 4)
_UNSOLVABLE = 0.05
_SLIPS = 0.05
_CHAINS = 0.2
_REHEARSAL = 0.2
_EXECUTORS = 3
_LATER_EXECUTORS = 0.4
_TWO_STAGES = 0.25
_PAIRS = 0.35
_MOST_STAGES = 3
_LONG = 2
_FOUR = 4
_GUESS_DRILLS = 24

_PAIR_OF_PAIRS = re.compile(r"\).\(")

WORKED_OUT = {"arithmetic": arithmetic.problems, "multiplication": multiplication.problems}


def calls_of_problem(
    rng: random.Random, *, seed: str, mix: Mix, family: Family = "countdown", count: Count = len
) -> list[list[Call]]:
    """Return some calls of one training problem, grouped by what is read together.

    Every ``mix`` draws the same problem. In a search, executors of later stages are drawn less often, because they are
    long contexts with little to learn. In arithmetic and multiplication they add only a few tokens each to the trie of
    the planner's path, so all are included. ``count`` counts tokens, which decide between modes.
    """
    if family == "countdown":
        stages = 2 if rng.random() < _TWO_STAGES else 1
        drawn = _searches(rng, seed=seed, counts=_COUNTS, unsolvable=_UNSOLVABLE)
        work = next(work for _, work in drawn if len(work.stages) >= stages)
    else:
        work = next(WORKED_OUT[family](seed=seed, split="train", slips=_SLIPS))
    if mix == "chains":
        return [[chain(work)]]
    if mix == "modes":
        work = in_quicker_mode(work, rng, count)
        if not work.stages:
            return [[planner(work)]]
    if mix == "settled":
        work = settled(work)
    if mix == "endings":
        work = ended(work, rng)
    every = list(executors(work))
    first = len(work.stages[0].subtasks)
    alone = [chain(work)] if mix in ("roles", "settled", "endings") and rng.random() < _CHAINS else []
    found = [call for call in every if call.found]
    alone += rng.sample(found, k=min(1, len(found)))
    alone += rng.sample(every[:first], k=min(_EXECUTORS, first))
    if family != "countdown":
        return [_worked_out(work, every), *([call] for call in alone)]
    if every[first:] and rng.random() < _LATER_EXECUTORS:
        alone.append(rng.choice(every[first:]))
    return [[planner(work, rehearsal=_REHEARSAL)], *([call] for call in alone)]


def _worked_out(work: Solution, every: Iterable[Call]) -> list[Call]:
    """Return the planner's path and the executors of later stages, whose contexts are most of that path."""
    later = itertools.islice(every, len(work.stages[0].subtasks), None)
    return [planner(work, rehearsal=_REHEARSAL), *later]


def _searches(
    rng: random.Random, *, seed: str, counts: Sequence[int], unsolvable: float = 0.0
) -> Iterator[tuple[Countdown, Solution]]:
    """Draw training problems with their searches.

    A share of ``_PAIRS`` has a pair of pairs such as ``(a+b)*(c+d)`` as its answer, which is the hardest to copy.
    """
    pairs = rng.random() < _PAIRS
    for task, searched in problems(seed=seed, split="train", counts=counts, unsolvable=unsolvable):
        work = solution_of(task, searched)
        if not pairs or _PAIR_OF_PAIRS.search(work.answer):
            yield task, work


def drills(rng: random.Random, *, seed: str, family: Family, mix: Mix = "roles") -> list[list[Call]]:
    """Return calls of further problems that train the hardest parts of each family.

    In arithmetic and multiplication that is planning, which copies the problem piece by piece. In a search it is the
    verdicts, and plans in which a pair of equal numbers is named once; with ``modes`` also guesses, which are short and
    take the most problems to learn.
    """
    if family == "countdown":
        guesses = _guesses(rng, seed=seed) if mix == "modes" else ()
        return [[call] for call in (*_pairings(seed=seed), *_verdicts(rng, seed=seed), *guesses)]
    drawn = WORKED_OUT[family](seed=f"drills:{seed}", split="train")
    if family == "multiplication":
        return [[first_plan(planner(next(drawn)))]]
    long = (work for work in drawn if len(work.stages) == _MOST_STAGES)
    return [_worked_out(work, executors(work)) for work in itertools.islice(long, _LONG)]


def _pairings(*, seed: str) -> Iterator[Call]:
    """Yield the first plans of two searches over four numbers. Two numbers of the second problem are equal."""
    drawn = problems(seed=f"plans:{seed}", split="train", counts=(_FOUR,))
    yield first_plan(planner(solution_of(*next(drawn))))
    yield first_plan(planner(next(solution_of(*found) for found in drawn if len({*found[0].numbers}) < _FOUR)))


def _guesses(rng: random.Random, *, seed: str) -> Iterator[Call]:
    """Yield whole runs of problems that are guessed, without a search for their plan."""
    draw = random.Random(f"guesses:{seed}")
    for _ in range(_GUESS_DRILLS):
        while True:
            numbers = draw.choices(range(1, draw.choice(LARGEST_NUMBERS) + 1), k=draw.choice(_COUNTS))
            task = Countdown(numbers=tuple(numbers), target=draw.choice(TARGETS))
            right = solve(sorted(numbers, reverse=True), task.target, draw) if split_of(task) == "train" else None
            if right is not None:
                break
        yield planner(guessed(Solution(task, (), ""), rng, misses=rng.randrange(GUESSES), found=True, right=right))


def _verdicts(rng: random.Random, *, seed: str) -> list[Call]:
    """Return two executors of one search, for its verdicts.

    The first reaches the target. The second does so too if there are four numbers, and fails if there are three. In
    whole traces only one verdict in twenty is a yes, so a model that always answers no would be right almost always.
    """
    task, work = next(_searches(rng, seed=f"verdicts:{seed}", counts=(3, 4)))
    every = list(executors(work))
    wanted = (True, len(task.numbers) == _FOUR)
    return [rng.choice([call for call in every if call.found is found] or every) for found in wanted]


def first_plan(path: Call) -> Call:
    """Cut a planner's path after its first plan: much to learn from a short context."""
    end = next(index for index, piece in enumerate(path.pieces) if piece.learned)
    return Call(path.role, path.pieces[: end + 1])


def batches(
    tokenizer: PreTrainedTokenizerBase,
    *,
    seed: int,
    step: int,
    problems_per_step: int,
    tokens_per_batch: int,
    mix: Mix,
    families: Mapping[Family, float] = MappingProxyType({"countdown": 1.0}),
) -> Iterator[Batch]:
    """Make the micro-batches of one optimiser step, each of at most ``tokens_per_batch`` tokens or one row.

    Each problem's family is drawn with the weights in ``families``. The result depends only on the arguments.
    """
    rows: list[Flattened] = []

    def count(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    for index in range(problems_per_step):
        key = f"{seed}:{step}:{index}"
        (family,) = random.Random(f"{key}:family").choices(list(families), weights=list(families.values()))
        read = calls_of_problem(random.Random(key), seed=key, mix=mix, family=family, count=count)
        if mix != "chains":
            read += drills(random.Random(f"{key}:drills"), seed=key, family=family, mix=mix)
        rows += [flatten([encode(call, tokenizer) for call in calls], shared="calls") for calls in read]
    rows.sort(key=lambda row: (row.is_chain, len(row)))
    padding: Any = tokenizer.pad_token_id
    collate = Collator(padding)
    while rows:
        widest = rows.pop()
        batch = [widest]
        # Batch rows of similar length and the same kind: padding wastes work, and chains need no mask.
        while (
            rows
            and rows[-1].is_chain == widest.is_chain
            and 2 * len(rows[-1]) > len(widest)
            and (len(batch) + 1) * len(widest) <= tokens_per_batch
        ):
            batch.append(rows.pop())
        yield collate(batch)
