"""What a ``Sprint`` is made of: how its agents, its dialect and the options of one run fit together."""

from collections.abc import Mapping
from copy import copy
from dataclasses import replace
from typing import Any, Generic, Literal, Self, cast

from .agents import Executor, ExecutorFunction, Planner
from .budget import Budget, Limits
from .dialects import DialectName, check_schemas, choose_dialect
from .dialects.base import Dialect
from .engine import Engine, Sampling, check_logprobs
from .errors import ConfigurationError
from .hooks import Hooks
from .plan import ResultT
from .policies import Policy, name_of
from .run import AnswerT
from .run_context import DepsT
from .runtime.ending import ending_of
from .runtime.executor import FunctionRunner, ModelRunner, RemoteContexts, Runner
from .runtime.nested import NestedSprint, SprintRunner
from .runtime.options import RunInputs, WantedDeps, check_options, find_wanted
from .runtime.settings import describe_settings
from .runtime.values import executor_of
from .settles import Settles


class Configuration(Generic[AnswerT, ResultT, DepsT]):
    """The parts of a ``Sprint``, which are the same for all of its runs except for the options of one."""

    policy: Policy
    policy_name: str
    planner: Planner[Any]
    executor: Any  # an agent, a function, or another configuration
    engine: Engine
    limits: Limits | None
    budget: Budget
    sampling: Sampling | None
    checker: Any
    settles: Settles | Literal[False] | None
    dialect: Dialect | DialectName | None
    hooks: Hooks | None
    deps_type: type[DepsT] | None
    _model: Executor[Any] | None
    _executor_engine: Engine | None
    _inputs: RunInputs
    _wanted_deps: list[WantedDeps]
    _bound: list[tuple[tuple[object, ...], Dialect]]  # shared with the copies for single runs

    def _with(self, options: Mapping[str, Any]) -> Self:
        """Return the sprint with the options of one run."""
        if not options:
            return self
        check_options(options)
        changed = copy(self)
        changed.budget = options.get("budget") or self.budget
        changed.limits = options.get("limits") or self.limits
        changed.sampling = options.get("sampling") or self.sampling
        review = options.get("review")
        changed._inputs = RunInputs(
            deps=options.get("deps"),
            metadata=options.get("metadata") or {},
            review=review,
            steering=options.get("steering"),
            after=options.get("after"),
        )
        changed._wanted_deps = self._wanted_deps + find_wanted([("review=", review if callable(review) else None)])
        if (seed := options.get("seed")) is not None:
            sampling = changed.sampling or Sampling.of(self.engine.manifest)
            changed.sampling = sampling.model_copy(update={"seed": seed})
            changed.planner = self.planner.with_seed(seed)
            if self._model is not None:
                changed.executor = changed._model = self._model.with_seed(seed)
        return changed

    def _find_wanted_deps(self) -> list[WantedDeps]:
        """Return the functions that read ``RunContext.deps``, those of an inner sprint included."""
        found = [] if self.deps_type is None else [WantedDeps("deps_type=", self.deps_type)]
        executor: object = self.executor
        if isinstance(executor, Configuration):
            found += cast("Configuration[Any, Any, Any]", executor)._wanted_deps
        named: list[tuple[str, Any]] = [
            ("checker=", self.checker),
            ("validator= of the planner", self.planner.validator),
        ]
        if self._model is not None:
            named.append(("validator= of the executor", self._model.validator))
            for tool in self._model.tools.values():
                named += [(f"tool {tool.name!r}", tool.function), (f"approve= of tool {tool.name!r}", tool.approve)]
        elif not isinstance(executor, Configuration):
            named.append(("executor=", self.executor))
        named += [(f"the hook {name}", hook) for name, hook in self.hooks or ()]
        return found + find_wanted(named)

    async def settings(self) -> dict[str, str]:
        """Describe what a resumed run must share with the run that began the journal: each setting by its name.

        The texts are short and the same in any process. Limits, the budget and sampling are not among them.

        >>> import asyncio
        >>> from sprint_agents import Sprint
        >>> from sprint_agents.testing import FakeEngine
        >>> asyncio.run(Sprint(FakeEngine("")).settings())["model"]
        'fake'

        Raises:
            EngineError: a server could not be asked for the name of its model.
        """
        for engine in {self.engine, self._executor_engine or self.engine}:
            await engine.decode([])  # with its first call, an engine may learn the name of its model
        known = self.engine.manifest.settles if self.engine.manifest else None
        settles = known if self.settles is None else self.settles
        settings = describe_settings(self.policy, self.planner, self._model, self._bind_dialect(), settles=settles)
        settings |= _describe_model(self.engine)
        executor = self.executor
        if self._inputs.after is not None:
            settings["run before"] = ending_of(self._inputs.after, self.engine, self._bind_dialect()).digest
        if isinstance(executor, Configuration):
            inner = await cast("Configuration[Any, Any, Any]", executor).settings()
            return settings | {f"executor's {name}": value for name, value in inner.items()}
        if self._executor_engine is None:
            return settings | {"executor function": name_of(executor)}
        return settings | {
            f"executor's {name}": value for name, value in _describe_model(self._executor_engine).items()
        }

    def _settling(self, known: Settles | None) -> Settles | None:
        """Return what settles the stages of a run; what the checkpoint says is about its own executions alone."""
        if self.settles is not None:
            return self.settles or None
        return known if self._executor_engine is self.engine else None

    def _agents(self) -> list[Executor[Any] | Planner[Any]]:
        """Return the agents that declare the types of results, those of inner sprints included."""
        executor = self.executor
        if isinstance(executor, Configuration):
            return [*cast("Configuration[Any, Any, Any]", executor)._agents(), self.planner]
        model = self._model or executor_of(cast("ExecutorFunction[Any]", executor))
        return [model, self.planner] if model else [self.planner]

    def _bind_dialect(self) -> Dialect:
        """Choose the dialect for the planner's engine, and bind it to the agents: once for all runs with the same.

        Raises:
            ConfigurationError: the model or its dialect cannot do what the agents ask for.
        """
        engine, executors, model = self.engine, self._executor_engine, self._model
        abilities = engine.manifest, engine.capabilities, executors and executors.capabilities
        parts = (*abilities, engine, executors, self.dialect, self.planner, model, self.limits, self.sampling)
        bound = self._bound
        if not bound or any(one is not other for one, other in zip(bound[0][0], parts, strict=True)):
            bound[:] = [(parts, self._new_dialect())]
        return bound[0][1]

    def _new_dialect(self) -> Dialect:
        manifest, model = self.engine.manifest, self._model
        if manifest and manifest.tasks and (self.planner.instructions or (model and model.instructions)):
            raise ConfigurationError(
                f"{manifest.model} reads nothing but the tasks that it was trained on: leave out instructions=, "
                "or use a model that follows instructions"
            )
        dialect = choose_dialect(self.dialect, self.engine, executors=self._executor_engine)
        limits = self.limits or Limits.of(manifest)
        plan_tokens = self.planner.max_tokens or limits.plan_tokens
        planner = replace(self.planner.brief, max_tokens=plan_tokens, answer_tokens=limits.answer_tokens)
        executor = replace(model.brief, max_tokens=model.max_tokens or limits.execution_tokens) if model else None
        dialect = dialect.bind(planner, executor)
        check_schemas(dialect, self.engine, self._executor_engine or self.engine)
        for agent, engine in ((self.planner, self.engine), (model, self._executor_engine)):
            if agent is not None and engine is not None:
                check_logprobs(engine, agent.sampling or self.sampling or Sampling())
        return dialect

    def _runner(self) -> Runner:
        """Return what carries out the subtasks of one run."""
        executor, model, engine = self.executor, self._model, self._executor_engine
        if isinstance(executor, Configuration):
            return SprintRunner(cast("NestedSprint", executor))
        if model is None or engine is None:
            return FunctionRunner(cast("ExecutorFunction[Any]", executor))
        if engine is self.engine:
            return ModelRunner(model)
        sampling = model.sampling or self.sampling or Sampling.of(engine.manifest)
        return ModelRunner(model, RemoteContexts(engine, sampling=sampling))


def _describe_model(engine: Engine) -> dict[str, str]:
    weights = engine.capabilities.weights
    return {"model": engine.name} | ({} if weights is None else {"weights": weights})
