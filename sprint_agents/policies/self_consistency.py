"""Self-consistency (ICLR 2023, arXiv 2203.11171): think several times, independently, and answer what most came to."""

from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from pydantic_core import to_json

from sprint_agents.plan import Answer, Execution, Plan, Stage, Step

from .attempts import answered
from .factory import at_least, factory
from .planning import Planning, Policy
from .sequential import sequential


@factory
def self_consistency(samples: int = 8, *, judge: bool = False, policy: Policy = sequential) -> Policy:
    """Make a policy that has ``policy`` solve the task ``samples`` times at once, by default in one chain each.

    The answer is the one that most attempts came to, the first of several. With ``judge`` the model reads all of them
    and answers instead. It draws different tokens each time only at a temperature above 0.
    """
    at_least(1, samples=samples)

    async def vote(planning: Planning) -> AsyncGenerator[Step, Stage]:
        stage = yield planning.attempt(*[policy] * samples)
        found = answered(stage)
        if judge:
            yield Plan.of(text=planning.quote(_candidates(found)))
            stage = yield planning.ask("answer")
            yield Answer(value=stage.answer)
        yield Answer(value=_most_common(found))

    return vote


def _most_common(found: Sequence[Execution[Any]]) -> object:
    """Compare as JSON, since answers may be of any type."""
    written = [to_json(execution.value) for execution in found]
    ((most, _),) = Counter(written).most_common(1)
    return found[written.index(most)].value


def _candidates(found: Sequence[Execution[Any]]) -> str:
    answers = "\n".join(f"{number}. {execution.value}" for number, execution in enumerate(found, 1))
    return f"These are the answers of independent attempts, of which the best is the answer:\n{answers}"
