"""Run one stage: the planner's or a policy's plan, its executions at the same time, and their join.

Invariants:

- An execution starts the moment its prompt closes, on the planner's own tokens up to there.
- The join appends executions in prompt order, as the ids that the executors generated.
- An accepted execution ends its siblings, but never interrupts what the planner writes.
- After an error or a cancellation no task of the stage is left, and the planner's context is the one before the stage.
- What had finished by then is in ``abandon()`` and, if the stage may be begun again, in its ``OpenStage``.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

from sprint_agents.context import Context
from sprint_agents.dialects.base import Form, Role
from sprint_agents.dialects.completions import Diagnostic, PlanReader, PromptClosed, Result
from sprint_agents.events import StageStarted
from sprint_agents.generation import Generation
from sprint_agents.plan import Ask, Attempts, Plan, Stage, Subtask
from sprint_agents.state import State
from sprint_agents.usage import CallUsage, EngineCall

from .branches import Branches
from .critical_path import measure
from .dispatch import Dispatch
from .executor import Runner, SubtaskOutcome
from .join import append_executions, select_executions
from .open_stage import OpenStage
from .prefill import JoinPrefill
from .prefix import SharedPrefix
from .progress import cut_off, missing_plan
from .review import review_plan
from .session import MeteredCall, Session
from .steps import check_dependencies
from .tag_tokens import TagTokens
from .thoughts import drop_thoughts
from .written import emit_planner

AnyStage = Stage[Any]
"""Named once, because pydantic looks a parametrised model up each time it is written."""


@dataclass(slots=True)
class StageRun:
    """One stage of a run; ``number`` is the number of its plan in the context, ``runner`` carries out its subtasks.

    Attributes:
        start: the planner's context before the stage.
        plan: the text of the plan, or of the chain; ``markup`` is what the context has of the plan, tags included.
        completion: of the planner, so far; ``call`` is its record when it has ended.
        calls: the planner's, those of earlier attempts included.
        result: the completion in which a nested policy's model wrote the result of the enclosing execution.
        proposed: the plan before a reviewer changed it.
        tasks: owns the executions of a pending stage, and cancels them when closed; None if the stage is finished.
        kept: what had finished when the stage was begun before; None if it is never begun again.
    """

    session: Session
    planner: State
    step: Plan | Ask | Attempts
    runner: Runner
    number: int
    started: float
    kept: OpenStage | None = None
    start: Context = field(init=False)
    calls: list[EngineCall] = field(default_factory=list[EngineCall])
    plan: str = ""
    markup: str | None = None
    answer: str | None = None
    completion: Generation | None = None
    metered: MeteredCall | None = None
    call: EngineCall | None = None
    result: Generation | None = None
    diagnostics: list[Diagnostic] = field(default_factory=list[Diagnostic])
    proposed: Plan | None = None
    branches: Branches | None = None
    tasks: AsyncExitStack | None = None

    async def run(self, task: str) -> Stage[Any]:
        """Run the stage and return its record; the planner's context then ends with its join, or its pending plan.

        Raises:
            EngineError: the planner's own request failed.
            BudgetExceeded: the budget has nothing left for the planner.
            ExecutionFailed: a subtask failed under ``fail_fast``.
            PolicyError: the step cannot be run.
        """
        session, step = self.session, self.step
        self.start = start = self.planner.context
        if self.kept is not None:
            self.kept.begin(step, start)
        if session.listening:
            session.emit(StageStarted(**session.stamp(), stage=self.number))
        try:
            async with AsyncExitStack() as tasks:
                if isinstance(step, Ask) and (step.form == "chain" or step.form == "answer"):
                    await self._request_answer(step.form)
                    return self._record(())
                if isinstance(step, Attempts):
                    await self._start_attempts(step, task, tasks)
                elif isinstance(step, Plan):
                    await self._start_plan(step, tasks)
                else:
                    await self._request_plan(step, tasks)
                return await self._end(tasks, cached=len(start))
        except BaseException:
            self.planner.context = start
            raise

    async def join(self, *, since: Sequence[Stage[Any]]) -> Stage[Any]:
        """Wait for the executions of a pending stage, append them to the planner's context and return its record.

        ``since`` are the records of the stages from this one on.
        """
        assert self.branches is not None
        assert self.tasks is not None
        start = self.planner.context
        outcomes = await self.branches.finish()
        await self.tasks.aclose()
        try:
            if joining := await self._select(outcomes):
                await append_executions(self.session.dialect, self.planner, self.number, joining)
        except BaseException:
            self.planner.context = start
            raise
        return self._record(outcomes, since=since)

    @property
    def begun(self) -> bool:
        """Say whether anything was written or started."""
        wrote = self.call is not None and self.call.usage.generated_tokens > 0
        return wrote or (self.branches is not None and bool(self.branches.numbers))

    def abandon(self, *, interrupted: bool = False) -> Stage[Any]:
        """Return the record of a stage that ended before its join; none of its tasks is left.

        It is ``interrupted`` by the end of its run, unless its policy gave up a pending stage.
        """
        stage = self._record(self.branches.abandon() if self.branches else ())
        return stage.model_copy(update={"interrupted": True}) if interrupted else stage

    async def _end(self, tasks: AsyncExitStack, *, cached: int) -> Stage[Any]:
        """Wait for the executions and join them, or leave them pending; ``cached`` tokens were there before."""
        branches, step, plan = self.branches, self.step, self.markup
        assert branches is not None
        if plan is not None and branches.numbers and not (isinstance(step, Attempts) or step.wait):
            await append_executions(self.session.dialect, self.planner, self.number, [], plan=plan)
            self.tasks = tasks.pop_all()
            return self._record(None)
        calls = branches.prefix.calls
        prefill = JoinPrefill.of(self.session, self.planner, branches.fork, step, plan, self.number, cached, calls)
        outcomes = await branches.finish(prefill)
        if prefill is not None:
            await prefill.finish()
        await tasks.aclose()
        if plan is not None:
            await append_executions(
                self.session.dialect, self.planner, self.number, await self._select(outcomes), plan=plan
            )
        return self._record(outcomes)

    async def _select(self, outcomes: Sequence[SubtaskOutcome]) -> Sequence[SubtaskOutcome]:
        assert self.branches is not None
        keep = None if isinstance(self.step, Attempts) else self.step.keep
        settled, call = self.branches.settled, self.session.call_function
        return await select_executions(keep, outcomes, stage=self.number, settled=settled, call=call)

    async def _request_plan(self, step: Ask, tasks: AsyncExitStack) -> None:
        """Let the model write a plan, or its answer; executions start while it writes."""
        session, planner, number = self.session, self.planner, self.number
        reader = session.dialect.read_plan(number, "plan")
        form: Literal["plan", "graph"] = "graph" if step.form == "graph" else "plan"
        await planner.append(self._opening(form))
        branches = await self._open_branches(step, tasks, cached=len(planner.context))
        dispatch = Dispatch(branches, number, waits=session.review is not None or bool(self.kept and self.kept.review))
        max_tokens = session.planner.max_tokens or session.limits.plan_tokens
        context = planner.context
        try:
            generation = await self._complete(reader, form, max_tokens, session.schema(form), dispatch.take)
            branches.prefix.complete()
            # A prompt that the end of the plan cuts short is certain only now.
            await dispatch.take(generation, reader.close())
        finally:
            self._count_tokens(reader, dispatch.prompt_ends)
            self.plan = reader.plan or ""
        self._keep_completion(context)
        setting = "Planner(max_tokens=…)" if session.planner.max_tokens else "Limits(plan_tokens=…)"
        cut = cut_off(generation, limit=max_tokens, setting=setting, stage=number)
        self.answer = reader.answer
        faults = [fault for fault in reader.diagnostics if fault.kind != "no_plan"]
        self.diagnostics = [*faults, *dispatch.unknown, *cut]
        reviewed = dispatch.waits and reader.answer is None
        if reviewed and await self._review(dispatch, generation, tasks, text=reader.text):
            return
        await drop_thoughts(session.dialect, form, planner, since=context, written=generation.text)
        if reader.answer is None:
            await self._end_turn(step, reader, generation)

    async def _end_turn(self, step: Ask, reader: PlanReader, generation: Generation) -> None:
        """Take a completion without an answer as a plan, or as a nested policy's result; correct any other."""
        session, number = self.session, self.number
        assert self.branches is not None
        if session.enclosing and reader.plan is None:
            self._take_result(generation)
            return
        # In ``fork_join_async`` a plan without subtasks waits for those of earlier plans.
        waits = self.branches.numbers or session.enclosing or not step.wait
        missing = None if waits else missing_plan(reader, generation, stage=number)
        cut = [fault.message for fault in self.diagnostics if fault.kind == "cut_off"]
        self.diagnostics += [missing] if missing else []
        if missing and (reader.plan is None or "no_plan" in {fault.kind for fault in reader.diagnostics}):
            error = ". ".join([missing.message, *cut])
            await self.planner.append(session.dialect.write_feedback("plan", number, 0, generation.text, error=error))
        else:
            self.markup = generation.text

    async def _review(self, dispatch: Dispatch, generation: Generation, tasks: AsyncExitStack, *, text: str) -> bool:
        """Have a plan reviewed and start its subtasks; return whether a reviewer has put another plan in its place.

        Then that plan also takes the place of the model's completion in the context.
        """
        proposed = dispatch.proposed(text)
        if not proposed.subtasks:
            return False
        plan = await review_plan(self.session, self.kept, proposed, stage=self.number)
        if changed := plan is not proposed:
            self.proposed, self.planner.context = proposed, self.start
            await self._write_plan(plan, await self._open_branches(self.step, tasks))
        else:
            await dispatch.start_waiting(generation)
        assert self.branches is not None
        self.branches.begin_after(self.call)
        return changed

    async def _start_plan(self, plan: Plan, tasks: AsyncExitStack) -> None:
        """Write a policy's plan into the context as a planner would, and start its executions."""
        check_dependencies(plan, self.number)
        if plan.subtasks and (self.session.review is not None or (self.kept and self.kept.review)):
            proposed, plan = plan, await review_plan(self.session, self.kept, plan, stage=self.number)
            self.proposed = None if plan is proposed else proposed
        await self._write_plan(plan, await self._open_branches(plan, tasks))

    async def _write_plan(self, plan: Plan, branches: Branches) -> None:
        prompts, after = [subtask.prompt for subtask in plan.subtasks], [subtask.after for subtask in plan.subtasks]
        pieces = self.session.dialect.write_plan(self.number, plan.text, prompts, after=after)
        if len(prompts) == 1:
            branches.prefix.complete()  # no other branch shares it
        contexts: list[Context] = []
        for piece in pieces:
            await self.planner.append(piece)
            contexts.append(self.planner.context)
        for subtask, context in zip(plan.subtasks, contexts, strict=False):
            await branches.start(subtask, context)
        self.plan, self.markup = plan.text, pieces[-1]

    async def _start_attempts(self, step: Attempts, task: str, tasks: AsyncExitStack) -> None:
        """Let each policy of ``step`` solve the task on its own fork."""
        branches = await self._open_branches(step, tasks)
        if len(step.policies) == 1:
            branches.prefix.complete()
        for number in range(1, len(step.policies) + 1):
            await branches.start(Subtask(number=number, prompt=task), self.planner.context)

    async def _open_branches(self, step: Plan | Ask | Attempts, tasks: AsyncExitStack, *, cached: int = 0) -> Branches:
        prefix = SharedPrefix(self.session, self.planner, cached, may_lead=self.runner.leads)
        fork = await tasks.enter_async_context(self.planner.fork())
        width = None if isinstance(step, Attempts) else step.width
        self.branches = Branches(self.session, self.runner, fork, prefix, self.number, width, step.accept, self.kept)
        return self.branches

    async def _request_answer(self, form: Literal["chain", "answer"]) -> None:
        """Let the model write one sequential chain up to its answer, or only the answer."""
        session, planner = self.session, self.planner
        max_tokens = session.limits.chain_tokens if form == "chain" else session.limits.answer_tokens
        setting = f"Limits({form}_tokens=…)"
        reader = session.dialect.read_plan(self.number, form)
        opening = self._opening(form)
        await planner.append(opening)
        schema = None if form == "chain" else session.schema("answer")
        context = planner.context
        try:
            generation = await self._complete(reader, "answer", max_tokens, schema)
            reader.close()
        finally:
            self._count_tokens(reader)
            self.plan = reader.chain or ""
        self._keep_completion(context)
        await drop_thoughts(session.dialect, "answer", planner, since=context, written=generation.text)
        if session.enclosing and (reader.answer is None or not opening):
            self._take_result(generation)
            return
        if reader.answer is None:
            await planner.append(session.dialect.write_end(form, generation.text))
        cut = cut_off(generation, limit=max_tokens, setting=setting, stage=self.number)
        self.answer, self.diagnostics = reader.answer, [*reader.diagnostics, *cut]

    async def _complete(
        self,
        reader: PlanReader,
        role: Role,
        max_tokens: int,
        schema: str | None,
        start: Callable[[Generation, Sequence[PromptClosed]], Awaitable[None]] | None = None,
    ) -> Generation:
        """Read the planner's completion, the one that was kept or else a new one; ``start`` gets the prompts."""
        session, planner = self.session, self.planner
        kept = self.kept.take_completion(planner.context) if self.kept else None
        if kept is None:
            gate = session.planner_gate
            self.metered = call = session.call(planner, role, max_tokens=max_tokens, schema=schema, stage=self.number)
        else:
            gate, call = nullcontext(), planner.replay(kept.chunks)
        async with gate, call as generation:
            self.completion = generation
            async for chunk in generation:
                if session.reading:
                    emit_planner(session, self.number, generation, chunk)
                if (prompts := reader.feed(chunk.text)) and start is not None:
                    await start(generation, prompts)
        return generation

    def _count_tokens(self, reader: PlanReader, prompt_ends: Sequence[tuple[int, int]] = ()) -> None:
        """Count what the planner wrote, in all and up to each prompt's end, whether or not its completion ended."""
        generation, kept = self.completion, self.kept
        if generation is None:
            return
        tags = TagTokens(reader)
        for prompt, end in prompt_ends:
            before = generation.tokens_before(end)
            assert self.branches is not None
            self.branches.set_prompt_tokens(prompt, content=before - tags.before(generation, end), strict=before)
        if self.metered is not None:
            self.call = self.metered.record(tags.before(generation, generation.length))
            self.calls.append(self.call)
        elif kept is not None and kept.completion is not None:
            self.call = kept.completion.call
            if self.call not in self.calls:
                self.calls.append(self.call)

    def _keep_completion(self, context: Context) -> None:
        if self.kept is not None and self.completion is not None and self.call is not None:
            assert isinstance(self.step, Ask)
            assert self.completion.finish is not None
            if self.completion.finish.reason == "length" and self.session.ledger.spent:
                return  # with a larger budget it may be longer
            self.kept.keep_completion(self.step, context, self.completion.chunks, self.call)

    def _opening(self, form: Form) -> str:
        """Return what precedes the planner's completion: nothing right after the header of an enclosing execution."""
        enclosing = self.session.enclosing
        if enclosing and self.planner.context is enclosing.start:
            return ""
        return self.session.dialect.write_opening(self.number, form)

    def _take_result(self, generation: Generation) -> None:
        """Read a nested policy's completion that is neither a plan nor an answer as the result of the execution."""
        enclosing = self.session.enclosing
        assert enclosing is not None
        turn = self.session.dialect.read_turn(enclosing.stage, enclosing.number, generation.text)
        self.plan, self.answer = "", turn.text if isinstance(turn, Result) else generation.text
        self.result, self.diagnostics = generation, []

    def _record(self, outcomes: Sequence[SubtaskOutcome] | None, *, since: Sequence[Stage[Any]] = ()) -> Stage[Any]:
        """Return the record of the stage, whose executions are pending if ``outcomes`` is None.

        If the stage was pending, ``since`` are the records of the stages from this one on.
        """
        branches = None if outcomes is None else self.branches
        outcomes = outcomes or ()
        prefix = branches.prefix.calls if branches else []
        costs = [call.usage for call in prefix] + [item.execution.usage for item in outcomes]
        if self.call is not None:
            costs.append(self.call.usage)
        return AnyStage(
            number=self.number,
            plan_number=self.number,
            plan=self.plan,
            executions=tuple([item.execution for item in outcomes]),
            answer=self.answer,
            accepted=branches.accepted if branches else None,
            concurrency=branches.concurrency if branches else None,
            pending=self.branches.numbers if self.branches and not branches else (),
            diagnostics=(*self.diagnostics, *(branches.diagnostics if branches else ())),
            logprobs=tuple(self.completion.logprobs) if self.completion else (),
            proposed=self.proposed,
            started=self._started(outcomes),
            ended=self.session.clock.now(),
            calls=tuple(sorted([*self.calls, *prefix], key=lambda call: call.started)),
            usage=measure(CallUsage.sum(costs), self.call, branches.works if branches else (), since=since),
        )

    def _started(self, outcomes: Sequence[SubtaskOutcome]) -> float:
        """Return when the stage began: if an earlier process began it, when the first of its kept parts did."""
        if self.kept is None:
            return self.started
        closed = [item.execution.prompt_closed for item in outcomes]
        return min([self.started, *(call.started for call in self.calls), *closed])
