"""What must hold after every run, whatever happened in it; each function yields what does not."""

import threading
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic_core import to_json

from sprint_agents import Budget, Run, Stage, errors
from sprint_agents.errors import ConfigurationError, SprintError

from .case import Case

Outcome = Run[Any, Any] | SprintError
"""What a run may end with, unless it was cancelled."""


def outcome_problems(outcome: Outcome, budget: Budget) -> Iterator[str]:
    """Check the record of a run: it exists, agrees with its error, and keeps to its budget."""
    record = outcome if isinstance(outcome, Run) else outcome.run
    if record is None:
        if not isinstance(outcome, ConfigurationError):
            yield f"the record is lost: {outcome!r}"
        return
    if isinstance(outcome, SprintError) and (record.error is None or record.error.type != type(outcome).__name__):
        yield f"the run raised {outcome!r} and its record says {record.error}"
    if isinstance(outcome, Run) and record.error is not None:
        yield f"the run returned and its record says {record.error}"
    yield from record_problems(record, budget)


def record_problems(record: Run[Any, Any], budget: Budget) -> Iterator[str]:
    """Check the record of a run, finished or failed: nothing is lost, its budget holds, and it has a JSON form."""
    if record.error is not None and not issubclass(getattr(errors, record.error.type, object), SprintError):
        yield f"the run failed with {record.error}"
    usage = record.usage
    for what, used, most in (
        ("tokens", usage.total_tokens, budget.tokens),
        ("calls", usage.calls, budget.calls),
        ("subtasks", usage.subtasks, budget.subtasks),
    ):
        if most is not None and used > most:
            yield f"the budget is {most} {what}, and {used} were used"
    yield from stage_problems(record.stages)
    Run[Any, Any].model_validate_json(record.model_dump_json())


def stage_problems(stages: Sequence[Stage[Any]]) -> Iterator[str]:
    """Check that no stage and no execution is lost or doubled."""
    if [stage.number for stage in stages] != list(range(1, len(stages) + 1)):
        yield f"stages are lost or doubled: {[stage.number for stage in stages]}"
    for stage in stages:
        numbers = [execution.number for execution in stage.executions]
        if len(numbers) != len(set(numbers)):
            yield f"executions of stage {stage.number} are doubled: {numbers}"
        for execution in stage.executions:
            yield from stage_problems(execution.stages)


def engine_problems(case: Case) -> Iterator[str]:
    """Check that no request is open, and that each has ended in one way."""
    for engine in case.fakes:
        account = engine.account()
        if account.running:
            yield f"{account.running} requests are open"
        if account.started != account.finished + account.aborted + account.failed:
            yield f"requests are lost: {account}"
    for server in case.servers:
        if server.open:
            yield f"{server.open} streams are open"


def sent_problems(case: Case) -> Iterator[str]:
    """Check that engines received no more requests and generated no more tokens than the budget of a single run."""
    accounts = [engine.account() for engine in case.fakes]
    tokens = sum(account.generated_tokens for account in accounts)
    calls = sum(account.started for account in accounts)
    if case.budget.tokens is not None and tokens > case.budget.tokens:
        yield f"the budget is {case.budget.tokens} tokens, and {tokens} were generated"
    if case.budget.calls is not None and calls > case.budget.calls:
        yield f"the budget is {case.budget.calls} calls, and {calls} requests were sent"


def thread_problems() -> Iterator[str]:
    """Check that the threads of functions end; call it when none of them hangs any more."""
    alive = [thread for thread in threading.enumerate() if thread.name == "sprint-agents function"]
    for thread in alive:
        thread.join(timeout=10)
    if stuck := sum(thread.is_alive() for thread in alive):
        yield f"{stuck} threads are alive"


def difference(resumed: Outcome, whole: Outcome, *, pending: bool) -> Iterator[str]:
    """Compare a resumed run with one that was not interrupted.

    ``pending`` says that stages may have been pending at the end, so time decides which of their executions finished.
    """
    if isinstance(resumed, SprintError) or isinstance(whole, SprintError):
        if isinstance(resumed, Run) or isinstance(whole, Run):
            yield f"the resumed run ended with {resumed!r:.300}, the whole one with {whole!r:.300}"
        return
    if resumed.answer != whole.answer:
        yield f"the resumed run answers {resumed.answer!r}, the whole one {whole.answer!r}"
    if len(resumed.stages) != len(whole.stages):
        yield f"the resumed run has {len(resumed.stages)} stages, the whole one {len(whole.stages)}"
    for one, other in zip(resumed.stages, whole.stages, strict=False):
        if (found := _contents(one, pending)) != (expected := _contents(other, pending)):
            yield f"stage {one.number} of the resumed run is {found!r:.600}, of the whole one {expected!r:.600}"


def _contents(stage: Stage[Any], pending: bool) -> object:
    executions = [] if pending else stage.executions
    return (
        stage.plan,
        stage.answer,
        stage.accepted,
        [
            (each.number, each.prompt, each.text, _json(each.value)[:100], each.failure and each.failure.type)
            for each in executions
        ],
    )


def _json(value: object) -> str:
    """Return the JSON form of a value, in which a journal keeps what a function returns: a set comes back as a list."""
    try:
        return to_json(value).decode()
    except ValueError:
        return repr(value)
