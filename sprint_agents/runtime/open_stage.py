"""An open stage: the finished parts of a stage that is not joined yet, so that none of them is done again.

A stage that is begun again, by a retry in this process or by a resumed run, takes from here what had finished: the
planner's completion, and executions.

Invariants:

- An execution is used again only for the token ids on which it started. So if the planner's completion had not
  finished and the model writes another plan, no execution of the old plan is taken for one of the new plan.
- A failure that exists only because the run ended is no result. That execution runs again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Literal

from sprint_agents.context import Context
from sprint_agents.engine import Chunk
from sprint_agents.errors import BudgetExceeded, DeadlineExceeded, JournalError
from sprint_agents.plan import Ask, Attempts, Execution, Plan, Subtask
from sprint_agents.usage import EngineCall

from .executor import SubtaskOutcome

StepForm = Literal["own plan", "plan", "graph", "chain", "answer", "attempts"]
"""What a policy's step is; its own plan is one that no model wrote."""

_BUDGET = {BudgetExceeded.__name__, DeadlineExceeded.__name__}


def form_of(step: Plan | Ask | Attempts) -> StepForm:
    """Name the form of a step."""
    if isinstance(step, Ask):
        return step.form
    return "own plan" if isinstance(step, Plan) else "attempts"


def is_final(execution: Execution[object]) -> bool:
    """Say whether an execution is finished: with a value, or with a failure that another try might repeat.

    Where a budget, a deadline or the end of the run stopped it, it has yet to run.
    """
    return not (execution.stopped or ended_with_budget(execution))


def ended_with_budget(execution: Execution[object]) -> bool:
    """Say whether an execution failed because a budget or a deadline had ended."""
    return execution.failure is not None and execution.failure.type in _BUDGET


@dataclass(frozen=True, slots=True)
class KeptCompletion:
    """A finished completion of the planner in a step of this ``form``, which started on the ids of digest ``on``."""

    form: StepForm
    on: str
    chunks: Sequence[Chunk]
    call: EngineCall


@dataclass(frozen=True, slots=True)
class KeptOutcome:
    """A finished execution, which started on the ids of digest ``on``."""

    on: str
    outcome: SubtaskOutcome


@dataclass(frozen=True, slots=True)
class KeptReview:
    """The verdict on a ``proposed`` plan: the ``plan`` to carry out instead; None if it was accepted as it is."""

    proposed: Plan
    plan: Plan | None


@dataclass(slots=True)
class OpenStage:
    """The finished parts of stage ``number``, the number of its step.

    Attributes:
        completion: of the planner; None if it has yet to finish, or if no model writes the plan.
        outcomes: the finished executions, by number.
        notes: what was said to the run before the stage began.
        review: of the plan; None if it was not reviewed.
        verdicts: whether ``accept`` took an execution, by number.
        start: the planner's context before the stage.
        fixed: the plan is known, so its prompts cannot differ from those of the kept executions.
    """

    number: int
    completion: KeptCompletion | None = None
    outcomes: dict[int, KeptOutcome] = field(default_factory=dict[int, KeptOutcome])
    verdicts: dict[int, bool] = field(default_factory=dict[int, bool])
    notes: tuple[str, ...] = ()
    review: KeptReview | None = None
    start: Context | None = None
    fixed: bool = False
    _hashes: dict[Context, blake2b] = field(default_factory=dict[Context, blake2b])

    def begin(self, step: Plan | Ask | Attempts, start: Context) -> None:
        """Begin the stage, or begin it again, on the context ``start``.

        Raises:
            JournalError: the policy's step is not the one whose parts are kept.
        """
        self.start, form = start, form_of(step)
        self._hashes = {}
        if self.completion is not None and self.completion.form != form:
            raise JournalError(self._differs(f"it is {form!r}, and was {self.completion.form!r}"))
        self.fixed = self.completion is not None or not isinstance(step, Ask)

    @property
    def accepted(self) -> int | None:
        """The execution that ended the stage; None if there is none, or if the plan may turn out otherwise."""
        return next((number for number, accepted in self.verdicts.items() if accepted and self.fixed), None)

    def take_completion(self, context: Context) -> KeptCompletion | None:
        """Return the kept completion of the planner, which must have started on the same ids.

        Raises:
            JournalError: it started on others.
        """
        kept = self.completion
        if kept is not None and kept.on != self._digest(context):
            raise JournalError(self._differs("the planner's context differs"))
        return kept

    def take_outcome(self, subtask: Subtask, context: Context) -> SubtaskOutcome | None:
        """Return the kept outcome of a subtask that starts on ``context``; None if it has to run.

        Raises:
            JournalError: the plan is known to be the same, but this subtask is another one.
        """
        kept = self.outcomes.get(subtask.number)
        if kept is None or not self.outcomes.keys() >= {*subtask.after}:
            return None  # an execution on which it depends runs again
        if kept.on == self._digest(context):
            return kept.outcome
        if self.fixed:
            before = kept.outcome.execution.prompt
            raise JournalError(self._differs(f"subtask {subtask.number} is {subtask.prompt!r}, and was {before!r}"))
        del self.outcomes[subtask.number]
        self.verdicts.pop(subtask.number, None)
        return None

    def keep_completion(
        self, step: Ask, context: Context, chunks: Sequence[Chunk], call: EngineCall
    ) -> KeptCompletion | None:
        """Keep the planner's completion, which started on ``context``; return it if it is new."""
        if self.completion is not None:
            return None
        self.completion = KeptCompletion(form_of(step), self._digest(context), chunks, call)
        self.fixed = True
        return self.completion

    async def keep_outcome(self, outcome: SubtaskOutcome, context: Context) -> None:
        """Keep a final outcome of a subtask that started on ``context``; return when it is on the disk."""
        if is_final(outcome.execution):
            self.outcomes[outcome.execution.number] = KeptOutcome(self._digest(context), outcome)

    def keep_verdict(self, number: int, *, accepted: bool) -> None:
        """Keep what ``accept`` said of an execution."""
        self.verdicts[number] = accepted

    @property
    def begun(self) -> bool:
        """Whether anything of the stage is kept."""
        return bool(self.notes or self.completion or self.outcomes)

    def keep_notes(self, notes: tuple[str, ...]) -> None:
        """Keep what the stage begins with."""
        self.notes = notes

    def keep_review(self, proposed: Plan, plan: Plan | None) -> None:
        """Keep the verdict on a plan."""
        self.review = KeptReview(proposed, plan)

    def drop_inner(self, number: int, error: Exception) -> None:
        """Forget the stages of an execution whose ``error`` ends the run, if they would end in it again."""

    def _digest(self, context: Context) -> str:
        """Identify the ids that the stage has added up to ``context``; what was before is the same for all of it.

        The branches of a plan start on prefixes of one another, and each costs only its own tokens: its hash continues
        that of the nearest context that has one.
        """
        path: list[Context] = []
        node: Context | None = context
        while node is not None and node is not self.start and node not in self._hashes:
            path.append(node)
            node = node.parent
        state = self._hashes[node] if node in self._hashes else blake2b(digest_size=12)
        for node in reversed(path):
            state = state.copy()
            state.update(b"".join([b"%d," % token for token in node.own_ids]))
            self._hashes[node] = state
        return state.hexdigest()

    def _differs(self, how: str) -> str:
        return (
            f"the policy's step {self.number} is not the one that the journal has: {how}. A resumed run asks the "
            "policy again, so it must yield the same steps for the same stages; use another path to start again"
        )
