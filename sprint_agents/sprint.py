"""``Sprint``: the entry point of the library."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import ExitStack, nullcontext
from copy import copy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Unpack, cast

from .agents import Executor, ExecutorFunction, Planner
from .arguments import at_least, check_argument, checked
from .budget import Budget, Ledger, Limits
from .configuration import Configuration
from .dialects import DialectName
from .dialects.base import Dialect
from .engine import Engine, Sampling
from .errors import ConfigurationError, FunctionError, describe, escape_surrogates, run_of
from .events import Event, RunFinished, RunStarted
from .functions import Threads, as_exception, ends_the_task
from .hooks import Hooks
from .logs import run_in_logs
from .plan import Accept, Failure, FailureMode, FailurePolicy, ResultT, Subtask
from .policies import Planning, Policy, find_policy
from .run import AnswerT, Run
from .run_context import DepsT, RunContext
from .runtime.batch import check_many, pair_with_journals, run_each
from .runtime.clock import AnswerTime, RunClock
from .runtime.ending import begin_context, end_run, keep_ending
from .runtime.gate import Gate
from .runtime.hook_calls import HookCalls
from .runtime.journal import Journal, StageJournal
from .runtime.journal_records import JournalHeader
from .runtime.listeners import Listener, check_listener, guarded
from .runtime.loop import follow
from .runtime.nested import write_subtask
from .runtime.options import PlanReview, RunInputs, RunOptions, check_deps, check_review
from .runtime.record import RunRecord
from .runtime.run_stream import RunStream
from .runtime.session import Session
from .runtime.stops import resolve_stops
from .runtime.timer import deadline
from .settles import Settles
from .steering import Steering
from .stream import AsyncStream
from .tasks import read_task

_Verdict = bool | Awaitable[bool | None] | None


@checked
class Sprint(Configuration[AnswerT, ResultT, DepsT]):
    r"""Solve tasks in stages of planning and parallel execution.

    A ``Sprint`` keeps no state of a run, so you can use one for any number of runs at the same time.

    Args:
        engine: the model server, for all agents without an engine; you open and close it.
        policy: decides the next stage: the name of a built-in policy, or an async generator function.
        planner: the agent that plans and answers; ``Planner(T)`` makes ``run.answer`` a ``T``.
        executor: carries out subtasks: an agent, a function, or another ``Sprint``, which solves each subtask as a
            task within this one's budget.
        limits: bounds on the parts of a run; the checkpoint's by default.
        budget: what one run may use in all.
        failure: what a failed execution does to the run.
        sampling: how tokens are drawn; the checkpoint's settings by default.
        checker: decides whether an answer is right, for ``run.verified``; a function, async or not. Only sprint-nano's
            own tasks need none.
        settles: what settles a stage of a model's plan: a text that an execution holds, a pattern, a function, or a
            ``Settles``. By default what the checkpoint says of the task; False for nothing.
        dialect: ``"tags"``, ``"json"``, or your own. By default the one that the checkpoint was trained on; without
            such a checkpoint, json for engines that hold conversations and tags for others.
        listeners: functions that are called with each event of each run, on the event loop. One that raises is logged,
            and not called again in that run.
        hooks: functions that each run waits for, around its requests, executions and stages.
        deps_type: the type of ``run(…, deps=…)``, which your functions read as ``RunContext.deps``.

    >>> from sprint_agents.testing import FakeEngine
    >>> engine = FakeEngine(lambda request: "<Final_answer>\\boxed{4}</Final_answer>")
    >>> Sprint(engine, planner=Planner(int)).run_sync("What is 2+2?").answer
    4
    """

    def __init__(
        self,
        engine: Engine,
        *,
        policy: Policy | str = "interleaved",
        planner: Planner[AnswerT] | None = None,
        executor: "Executor[ResultT] | Sprint[ResultT, Any, Any] | ExecutorFunction[ResultT, DepsT] | None" = None,
        limits: Limits | None = None,
        budget: Budget | None = None,
        failure: FailurePolicy | FailureMode = "collect",
        sampling: Sampling | None = None,
        checker: Callable[[AnswerT], _Verdict] | Callable[[RunContext[DepsT], AnswerT], _Verdict] | None = None,
        settles: Accept | Literal[False] | None = None,
        dialect: Dialect | DialectName | None = None,
        listeners: Sequence[Callable[[Event], object]] = (),
        hooks: Hooks | None = None,
        deps_type: type[DepsT] | None = None,
    ) -> None:
        self.policy_name, self.policy = find_policy(policy)
        if isinstance(executor, type):
            kind = executor.__name__
            raise ConfigurationError(f"executor= is the class {kind}: for results of that type, pass Executor({kind})")
        self.planner: Planner[Any] = planner or Planner(str)
        self.executor: Executor[Any] | Sprint[Any, Any, Any] | ExecutorFunction[Any] = executor or Executor(str)
        self._model = cast("Executor[Any]", self.executor) if isinstance(executor, Executor | None) else None
        self.engine = self.planner.engine or engine
        self._executor_engine = (self._model.engine or engine) if self._model else None
        self.limits = limits
        self.budget = budget or Budget()
        self.failure = failure if isinstance(failure, FailurePolicy) else FailurePolicy(mode=failure)
        self.sampling = sampling
        self.checker = checker
        self.settles = None if settles is None else False if isinstance(settles, int) else Settles.of(settles)
        self.dialect: Dialect | DialectName | None = dialect
        self.listeners = tuple(check_listener(listener) for listener in listeners)
        self.hooks = hooks
        self.deps_type = deps_type
        self._inputs = RunInputs()
        self._bound = []
        self._wanted_deps = self._find_wanted_deps()
        if (
            dialect == "tags"
            or self.planner.instructions
            or (self._model and (self._model.instructions or self._model.tools))
        ):
            self._bind_dialect()  # raises now what would otherwise be raised by each run

    async def run(
        self, task: str, *, journal: Path | str | None = None, **options: Unpack[RunOptions[DepsT]]
    ) -> Run[AnswerT, ResultT]:
        """Solve one task and return the finished run.

        ``journal`` is a file that gets a record of each execution and each stage. If it exists, the run resumes from
        there, and only what had not finished runs. The other ``options`` are those of ``RunOptions``.

        Raises:
            ConfigurationError: an option is wrong, or a function wants ``deps`` that the run does not have.
            UnsupportedTask: the task is empty, or is not one that the model was trained on.
            SprintError: the run failed; ``error.run`` is the run so far. If the task is cancelled, so is that of the
                ``CancelledError``: see ``errors.run_of``.
        """
        return await self._with(options)._run(task, [], journal)

    async def run_within(
        self,
        subtask: Subtask,
        *,
        ledger: Ledger,
        clock: RunClock,
        listeners: Sequence[Listener] = (),
        journal: StageJournal | None = None,
        inputs: RunInputs | None = None,
    ) -> Run[AnswerT, ResultT]:
        """Solve a subtask of another run, which pays for it from ``ledger`` and keeps it in ``journal``.

        The task is the subtask's prompt with the results that it waited for. A model that knows only the tasks that it
        was trained on gets the prompt alone.

        Raises:
            SprintError: the run failed; ``error.run`` is the run so far.
        """
        manifest = self.engine.manifest
        task = subtask.prompt if manifest and manifest.tasks else write_subtask(subtask)
        share = Ledger(self.budget, whole=ledger)
        inner = copy(self)
        inner._inputs = inputs.inner if inputs else self._inputs
        return await inner._run_within(task, secrets.token_hex(8), clock, clock.now(), listeners, share, journal)

    def stream(
        self, task: str, *, journal: Path | str | None = None, **options: Unpack[RunOptions[DepsT]]
    ) -> RunStream:
        """Watch one run: ``async with sprint.stream(task) as events: async for event in events: …``.

        The last event is ``RunFinished``. If the run failed, its error is raised after that. Leaving the block ends the
        run. The ``options`` are those of ``run``. ``events.say(text)`` says something to the planner.
        """
        steering = options["steering"] = options.get("steering") or Steering()
        sprint = self._with(options)
        return RunStream(lambda put: sprint._run(task, [put], journal), steering=steering)

    def map(
        self,
        tasks: Iterable[str],
        *,
        concurrency: int = 8,
        journals: Iterable[Path | str] | None = None,
        **options: Unpack[RunOptions[DepsT]],
    ) -> AsyncStream[Run[AnswerT, ResultT]]:
        """Solve many tasks: ``async with sprint.map(tasks) as runs: async for run in runs: …``.

        Up to ``concurrency`` runs are active at a time, and each is yielded when it finishes. A run that failed is
        yielded with its ``error`` instead of raising it, so each task has exactly one run. At most ``concurrency``
        more tasks are taken than runs are read. ``tasks`` is read on the event loop; if it raises, its error is raised
        after the last run. ``journals`` has one for each task, as in ``run``. The ``options`` apply to each run.
        """
        check_argument("concurrency=", concurrency, int)
        at_least(1, concurrency=concurrency)
        check_many("tasks", tasks)
        if journals is not None:
            check_many("journals", journals)
        if options.get("steering") is not None:
            raise ConfigurationError("steering= speaks to one run, and map has many: use run or stream for each")
        places, sprint = asyncio.Semaphore(concurrency), self._with(options)
        return AsyncStream(
            lambda put: run_each(
                pair_with_journals(tasks, journals), places, run=sprint._run_to_record, failed=self._failed, put=put
            ),
            taken=places.release,
        )

    def run_sync(
        self, task: str, *, journal: Path | str | None = None, **options: Unpack[RunOptions[DepsT]]
    ) -> Run[AnswerT, ResultT]:
        """Solve one task from code that is not async, with the options of ``run``.

        Raises:
            ConfigurationError: an event loop is already running; use ``await sprint.run(…)``.
            SprintError: the run failed; ``error.run`` is the run so far. The ``KeyboardInterrupt`` that Ctrl-C raises
                has it too.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise ConfigurationError(
                "run_sync was called inside a running event loop: use `await sprint.run(task)` there"
            )
        try:
            return asyncio.run(self._with(options)._run(task, [], journal))
        except KeyboardInterrupt as interrupt:
            if interrupt.__context__ is not None:  # the cancellation of the run
                vars(interrupt)["run"] = run_of(interrupt.__context__)
            raise

    async def _run_to_record(self, each: tuple[str, Path | str | None]) -> Run[AnswerT, ResultT]:
        """Run a task with its journal; a failure is returned as a run with its error."""
        task, journal = each
        try:
            return await self._run(task, [], journal)
        except BaseException as error:
            return self._failed(each, as_exception(error), run_of(error))

    def _failed(
        self, each: tuple[object, object], error: Exception, run: Run[Any, Any] | None
    ) -> Run[AnswerT, ResultT]:
        """Return the record of a run that failed: ``run`` if it had started; the task is whatever was given as one."""
        if run is not None:
            return run.model_copy(update={"error": Failure.of(error)})
        task, _ = each
        text = escape_surrogates(task) if isinstance(task, str) else f"({type(task).__name__})"
        return Run(
            id=secrets.token_hex(8),
            task=text,
            policy=self.policy_name,
            error=Failure.of(error),
            metadata=self._inputs.metadata,
        )

    async def _run(self, task: str, listeners: Sequence[Listener], journal: Path | str | None) -> Run[AnswerT, ResultT]:
        check_argument("journal=", journal, Path | str | None)
        check_review(self._inputs.review, journal=journal is not None)
        run_id, ledger = secrets.token_hex(8), Ledger(self.budget)
        if journal is None:
            with run_in_logs(run_id):
                return await self._run_within(task, run_id, RunClock.start(), 0.0, listeners, ledger)
        read_task(task, self.engine.manifest)  # refuses a task before there is a journal of it
        with await self._open_journal(Path(journal), run_id, task) as opened, run_in_logs(opened.header.run_id):
            check_review(self._inputs.review, journal=True, paused=opened.paused)
            run_id, stages = opened.header.run_id, opened.begin(ledger)
            try:
                run = await self._run_within(task, run_id, opened.clock, 0.0, listeners, ledger, stages)
            except BaseException as error:
                if (failed := run_of(error)) is not None:
                    opened.end(failed.error)
                raise
            opened.end(None)
            return run

    async def _run_within(
        self,
        task: str,
        run_id: str,
        clock: RunClock,
        started: float,
        listeners: Sequence[Listener],
        ledger: Ledger,
        journal: StageJournal | None = None,
    ) -> Run[AnswerT, ResultT]:
        read = read_task(task, self.engine.manifest)
        check_deps(self._inputs.deps, self._wanted_deps)
        with ExitStack() as resources:
            heard = [*(guarded(listener) for listener in self.listeners), *listeners]
            session = await self._session(run_id, task, clock, heard, ledger)
            session.settles = self._settling(read.settles)
            resources.callback(session.threads.shutdown)
            inputs = self._inputs
            planning = Planning(task=read.prompt, limits=session.limits, ledger=session.ledger, deps=inputs.deps)
            planner, opening, plans = begin_context(self.engine, session.dialect, read.prompt, inputs.after)
            planner.sampling = self.planner.sampling or session.sampling
            record = RunRecord(run_id, task, self.policy_name, planning, planner, clock, started, inputs.metadata)
            if session.listening:
                session.emit(
                    RunStarted(
                        run_id=run_id,
                        at=clock.now(),
                        task=task,
                        policy=self.policy_name,
                        engine=self.engine.name,
                        origin=clock.origin,
                        metadata=inputs.metadata,
                    )
                )
            answer: Any = None
            try:
                async with deadline(self.budget.seconds):
                    await planner.append(opening)
                    found = await follow(
                        session, self.policy, planning, planner, self._runner(), plans=plans, journal=journal
                    )
                    answer = found.value
                    verified = await self._verify(session, answer, read.check)
                run: Run[AnswerT, ResultT] = record.make(answer, verified=verified)
                keep_ending(run, planner, session.dialect, plans)
            except BaseException as error:
                raised = error if ends_the_task(error) else as_exception(error)
                failed = record.make(answer, error=Failure.of(raised))
                if session.listening:
                    session.emit(RunFinished(run_id=run_id, at=clock.now(), run=failed))
                await end_run(planner.run, (self.engine, self._executor_engine))
                vars(raised)["run"] = failed  # last, since several runs may be raising the same error
                if raised is error:
                    raise
                raise raised from error
            await end_run(planner.run, (self.engine, self._executor_engine))
            if session.listening:
                session.emit(RunFinished(run_id=run_id, at=clock.now(), run=run))
            return run

    async def _open_journal(self, path: Path, run_id: str, task: str) -> Journal:
        """Open the journal of a run, for these settings alone.

        Raises:
            JournalError: it cannot be used, or has other settings.
        """
        header = JournalHeader(
            run_id=run_id,
            task=task,
            policy=self.policy_name,
            origin=datetime.now(UTC),
            settings=await self.settings(),
        )
        return Journal(path, header, self._agents())

    async def _session(
        self, run_id: str, task: str, clock: RunClock, listeners: Sequence[Listener], ledger: Ledger
    ) -> Session:
        limits = self.limits or Limits.of(self.engine.manifest)
        dialect = self._bind_dialect()
        return Session(
            run_id=run_id,
            clock=clock,
            engine=self.engine,
            executor_engine=self._executor_engine,
            dialect=dialect,
            stops=await resolve_stops(dialect, self.engine, self._executor_engine),
            limits=limits,
            ledger=ledger,
            failure=self.failure,
            planner=self.planner,
            sampling=self.sampling or Sampling.of(self.engine.manifest),
            listeners=listeners,
            gate=Gate(limits.concurrency) if limits.concurrency else nullcontext(),
            threads=Threads(limits.concurrency),
            answer_time=AnswerTime.of(clock, seconds=self.budget.seconds, kept=self.budget.answer_seconds),
            task=task,
            inputs=self._inputs,
            steering=self._inputs.steering,
            review=PlanReview(self._inputs.review) if self._inputs.review is not None else None,
            hooks=HookCalls(self.hooks) if self.hooks else None,
        )

    async def _verify(self, session: Session, answer: AnswerT, check: Callable[[str], bool] | None) -> bool | None:
        """Return the verdict on an answer; None without a checker, or if the checker gives none.

        Raises:
            FunctionError: the checker raised, or took too long.
        """
        if self.checker is None:
            return check(str(answer)) if check else None
        try:
            verdict = await session.call_function(self.checker, answer)
            return None if verdict is None else bool(verdict)
        except Exception as error:
            raise FunctionError(
                f"checker= failed on the answer, {describe(error)}: it is given the answer "
                "and says whether it is right; error.run has the answer"
            ) from error
