"""``Sprint``: the face of the library."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import ExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, cast

from .agents import Executor, ExecutorFunction, Planner
from .budget import Budget, Ledger, Limits
from .dialects.base import Dialect
from .dialects.selection import DialectName, check_schemas, choose_dialect
from .engine import Engine, Sampling
from .errors import ConfigurationError, DeadlineExceeded, SprintError
from .events import Event, RunFinished, RunStarted
from .plan import Failure, FailureMode, FailurePolicy, ResultT
from .policies import Planning, Policy, find_policy
from .run import AnswerT, Run
from .runtime.executor import FunctionRunner, ModelRunner, RemoteContexts, Runner
from .runtime.journal import Journal, JournalHeader
from .runtime.loop import follow
from .runtime.nested import SprintRunner
from .runtime.session import Listener, Session, resolve_stops
from .state import State
from .stream import AsyncStream
from .task import read_task
from .usage import Usage


class Sprint(Generic[AnswerT, ResultT]):
    r"""Solve tasks by stages of planning and parallel execution.

    A ``Sprint`` holds no state of a run: use one for any number of runs at the same time.

    Args:
        engine: the model server, for all agents that have none of their own; the caller opens and closes it.
        policy: who decides the next stage: a built-in's name, or an async generator function.
        planner: the agent that plans and answers; ``Planner(T)`` makes ``run.answer`` a ``T``.
        executor: the agent that carries out subtasks; or a plain function; or another ``Sprint``, of which each
            subtask is a task, within this one's budget.
        limits: bounds on the parts of a run; those of the checkpoint by default.
        budget: what one run may use in all.
        failure: what a failed execution does to the run.
        sampling: how tokens are drawn; the checkpoint's settings by default.
        checker: whether an answer is right, for ``run.verified``; only sprint-nano's own tasks need none.
        dialect: ``"tags"``, ``"json"``, or one of your own; by default what the checkpoint was trained on, and where it
            says nothing, json for engines that hold conversations and tags for the others.

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
        executor: "Executor[ResultT] | Sprint[ResultT, Any] | ExecutorFunction[ResultT] | None" = None,
        limits: Limits | None = None,
        budget: Budget | None = None,
        failure: FailurePolicy | FailureMode = "collect",
        sampling: Sampling | None = None,
        checker: Callable[[AnswerT], bool] | None = None,
        dialect: Dialect | DialectName | None = None,
    ) -> None:
        self.policy_name, self.policy = find_policy(policy)
        self.planner: Planner[Any] = planner or Planner(str)
        self.executor: Executor[Any] | Sprint[Any, Any] | ExecutorFunction[Any] = executor or Executor(str)
        self.engine = self.planner.engine or engine
        model = cast("Executor[Any]", executor or Executor(str)) if isinstance(executor, Executor | None) else None
        self.executor_engine = (model.engine if model else None) or engine
        self._executor_brief = model.brief if model else None
        self.limits = limits
        self.budget = budget or Budget()
        self.failure = failure if isinstance(failure, FailurePolicy) else FailurePolicy(mode=failure)
        self.sampling = sampling
        self.checker = checker
        self.dialect: Dialect | DialectName | None = dialect
        if self.planner.instructions or (model and (model.instructions or model.tools)):
            self._dialect_of_run()  # what no dialect can say is found here, before anything runs

    async def run(self, task: str, *, journal: Path | str | None = None) -> Run[AnswerT, ResultT]:
        """Solve one task and return the finished run.

        ``journal`` is a file that gets one record per stage; if it exists, the run goes on after its last one.

        Raises:
            UnsupportedTask: the task is empty, or not one that the model understands.
            SprintError: the run failed; ``error.run`` is the run so far.
        """
        return await self._run(task, [], journal)

    async def run_within(
        self, task: str, *, ledger: Ledger, listeners: Sequence[Listener] = ()
    ) -> Run[AnswerT, ResultT]:
        """Solve one task as a part of another run: what it uses is reserved in ``ledger`` too.

        Raises:
            SprintError: the run failed; ``error.run`` is the run so far.
        """
        return await self._run(task, listeners, None, ledger=Ledger(self.budget, whole=ledger))

    def stream(self, task: str, *, journal: Path | str | None = None) -> AsyncStream[Event]:
        """Watch one run: ``async with sprint.stream(task) as events: async for event in events: …``.

        The last event is ``RunFinished``; a failed run's error is raised after it. Leaving the block ends the run.
        """
        return AsyncStream(lambda put: self._run(task, [put], journal))

    def map(self, tasks: Iterable[str], *, concurrency: int = 8) -> AsyncStream[Run[AnswerT, ResultT]]:
        """Solve many tasks: ``async with sprint.map(tasks) as runs: async for run in runs: …``.

        ``concurrency`` runs are under way at a time and come as they finish; a failed one has its ``error`` and is not
        raised. ``tasks`` is read as needed.
        """
        if concurrency < 1:
            raise ConfigurationError(f"concurrency is {concurrency}: at least one run must be under way")
        return AsyncStream(lambda put: self._map(iter(tasks), concurrency, put))

    def run_sync(self, task: str, *, journal: Path | str | None = None) -> Run[AnswerT, ResultT]:
        """Solve one task from code that is not async.

        Raises:
            ConfigurationError: an event loop is running here; use ``await sprint.run(…)``.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(self.run(task, journal=journal))
        raise ConfigurationError("run_sync was called inside a running event loop: use `await sprint.run(task)` there")

    async def _map(self, tasks: Iterable[str], concurrency: int, put: Callable[[Run[AnswerT, ResultT]], None]) -> None:
        async def worker() -> None:
            for task in tasks:  # one iterator for all workers
                put(await self._recorded(task))

        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(worker())

    async def _recorded(self, task: str) -> Run[AnswerT, ResultT]:
        """Run a task; a failure is a run with its error."""
        try:
            return await self._run(task, [], None)
        except Exception as error:
            if isinstance(error, SprintError) and error.run is not None:
                return error.run  # type: ignore[return-value]
            return Run(id=secrets.token_hex(8), task=task, policy=self.policy_name, error=Failure.of(error))

    async def _run(
        self,
        task: str,
        listeners: Sequence[Listener],
        journal: Path | str | None,
        *,
        ledger: Ledger | None = None,
    ) -> Run[AnswerT, ResultT]:
        prompt, check = read_task(task, self.engine.manifest)
        run_id = secrets.token_hex(8)
        with ExitStack() as opened:
            log: Journal | None = None
            if journal is not None:
                header = JournalHeader(run_id=run_id, task=task, policy=self.policy_name, engine=self.engine.name)
                log = opened.enter_context(Journal(Path(journal), header))
                listeners, run_id = [*listeners, log], log.header.run_id
            session = await self._session(listeners, ledger or Ledger(self.budget))
            planning = Planning(task=prompt, limits=session.limits, ledger=session.ledger)
            planner = State(self.engine, sampling=self.planner.sampling or session.sampling)
            record = _Record(run_id, task, self.policy_name, planning, planner)
            session.emit(RunStarted(run_id=run_id, task=task, policy=self.policy_name))
            try:
                async with _deadline(self.budget):
                    await planner.append(session.dialect.write_task(prompt))
                    answer = (await follow(session, self.policy, planning, planner, self._runner(), journal=log)).value
                run: Run[AnswerT, ResultT] = record.finished(answer, self._verify(answer, check))
            except Exception as error:
                failed = record.failed(error)
                session.emit(RunFinished(run=failed))
                if isinstance(error, SprintError):
                    error.run = failed
                raise
            session.emit(RunFinished(run=run))
            return run

    async def _session(self, listeners: Sequence[Listener], ledger: Ledger) -> Session:
        manifest = self.engine.manifest
        limits = self.limits or Limits.of(manifest)
        dialect = self._dialect_of_run()
        executor_engine = self.executor_engine if isinstance(self.executor, Executor) else None
        return Session(
            engine=self.engine,
            executor_engine=executor_engine,
            dialect=dialect,
            stops=await resolve_stops(dialect, self.engine, executor_engine),
            limits=limits,
            ledger=ledger,
            failure=self.failure,
            planner=self.planner,
            sampling=self.sampling or Sampling.of(manifest),
            listeners=listeners,
            gate=asyncio.Semaphore(limits.concurrency) if limits.concurrency else nullcontext(),
        )

    def _dialect_of_run(self) -> Dialect:
        """Choose the dialect for the planner's engine, and tell it of the agents.

        Raises:
            ConfigurationError: they ask for what the model or its dialect does not know.
        """
        manifest = self.engine.manifest
        executor = self._executor_brief
        if manifest and manifest.tasks and (self.planner.instructions or (executor and executor.instructions)):
            raise ConfigurationError(
                f"{manifest.model} reads nothing but the tasks that it was trained on: leave out instructions=, "
                "or use a model that follows instructions"
            )
        executors = None if executor is None else self.executor_engine
        dialect = choose_dialect(self.dialect, self.engine, executors=executors)
        dialect = dialect.bind(self.planner.brief, executor)
        check_schemas(dialect, self.engine, self.executor_engine)
        return dialect

    def _runner(self) -> Runner:
        """Return what carries out the subtasks of one run."""
        engine = self.executor_engine
        if isinstance(self.executor, Sprint):
            return SprintRunner(cast("Sprint[Any, Any]", self.executor))
        if not isinstance(self.executor, Executor):
            return FunctionRunner(self.executor)
        executor = cast("Executor[Any]", self.executor)
        if engine is self.engine:
            return ModelRunner(executor)
        sampling = executor.sampling or self.sampling or Sampling.of(engine.manifest)
        return ModelRunner(executor, RemoteContexts(engine, sampling=sampling))

    def _verify(self, answer: AnswerT, check: Callable[[str], bool] | None) -> bool | None:
        if self.checker is not None:
            return self.checker(answer)
        return check(str(answer)) if check else None


@dataclass(slots=True)
class _Record:
    """Makes the record of a run, finished or failed, from what it holds by then."""

    run_id: str
    task: str
    policy: str
    planning: Planning
    planner: State
    started: float = field(default_factory=lambda: asyncio.get_running_loop().time())

    def finished(self, answer: Any, verified: bool | None) -> Run[Any, Any]:
        return self._run(answer=answer, verified=verified, error=None)

    def failed(self, error: Exception) -> Run[Any, Any]:
        return self._run(answer=None, verified=None, error=Failure.of(error))

    def _run(self, *, answer: Any, verified: bool | None, error: Failure | None) -> Run[Any, Any]:
        return Run[Any, Any](
            id=self.run_id,
            task=self.task,
            policy=self.policy,
            answer=answer,
            verified=verified,
            stages=tuple(self.planning.stages),
            usage=_usage(self.planning, seconds=asyncio.get_running_loop().time() - self.started),
            error=error,
            transcript=self.planner.context.text,
        )


def _usage(planning: Planning, *, seconds: float) -> Usage:
    stages, ledger = planning.stages, planning.ledger
    totals = [stage.usage.total for stage in stages]
    prompt, cached = sum(cost.prompt_tokens for cost in totals), sum(cost.cached_tokens for cost in totals)
    return Usage(
        sequential_tokens=sum(stage.usage.sequential_tokens for stage in stages),
        sequential_tokens_strict=sum(stage.usage.sequential_tokens_strict for stage in stages),
        total_tokens=ledger.tokens,
        prompt_tokens=prompt,
        cached_tokens=cached,
        recomputed_tokens=prompt - cached,
        calls=ledger.calls,
        stages=len(stages),
        subtasks=ledger.subtasks,
        width=max((len(stage.executions) for stage in stages), default=0),
        retries=ledger.retries,
        tool_calls=sum(cost.tool_calls for cost in totals),
        failures=sum(len(stage.failures) for stage in stages),
        seconds=seconds,
    )


@asynccontextmanager
async def _deadline(budget: Budget) -> AsyncGenerator[None]:
    timeout = asyncio.timeout(budget.seconds)
    try:
        async with timeout:
            yield
    except TimeoutError as error:
        if budget.seconds is None or not timeout.expired():
            raise
        raise DeadlineExceeded(f"the run's {budget.seconds:g} s are over: raise Budget(seconds=…)") from error
