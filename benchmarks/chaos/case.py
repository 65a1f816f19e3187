"""One case of the soak: a sprint whose every setting is drawn from a seed.

Invariant: two cases with the same arguments behave alike, in any process, unless threads decide what comes first.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from sprint_agents import Budget, Capabilities, Engine, Executor, Limits, Plan, Planner, Policy, Sprint
from sprint_agents.engine import ChatTurns
from sprint_agents.policies import (
    aggregation,
    as_needed,
    dag,
    first_success,
    fork_join_async,
    interleaved,
    limit_width,
    race,
    self_consistency,
    sequential,
    skeleton,
    spawn_join,
    tree_search,
    until,
    with_fallback,
)
from sprint_agents.testing import FakeEngine, Latency

from .functions import Misbehaving, policies
from .model import WORDS, ScriptedModel
from .server import LyingServer

_SPEAKERS = ("system", "user", "assistant")
_CHATML = ChatTurns(
    opens={name: f"<|im_start|>{name}\n" for name in _SPEAKERS}, closes=dict.fromkeys(_SPEAKERS, "<|im_end|>\n")
)


@dataclass(slots=True)
class Case:
    """The settings of some runs.

    Attributes:
        seed: repeats the case.
        steady: nothing depends on time or on the order of requests, so a resumed run is like an uninterrupted one.
        real: the clock is real, so nothing waits for long.
        moment: called at every request and every call of a function.
    """

    seed: str
    steady: bool = False
    real: bool = False
    moment: Callable[[], None] = lambda: None
    kinds: list[str] = field(default_factory=list[str])
    fakes: list[FakeEngine] = field(default_factory=list[FakeEngine])
    servers: list[LyingServer] = field(default_factory=list[LyingServer])
    random: Random = field(init=False)
    functions: Misbehaving = field(init=False)
    model: ScriptedModel = field(init=False)
    sprint: Sprint[Any, Any] = field(init=False)
    task: str = field(init=False)

    def __post_init__(self) -> None:
        self.random = random = Random(f"case {self.seed}")
        odd = random.choice((0.0, 0.0, 0.1, 0.3, 0.8))
        threads = not self.steady and random.random() < 0.2
        scale = 0.002 if threads or self.real else 1.0
        hangs = not self.real or threads
        self.task = " ".join(["solve", *random.choices(WORDS, k=4)])
        self.functions = Misbehaving(self.seed, odd, scale, hangs=hangs, threads=threads, on_call=self.moment)
        self.model = ScriptedModel(
            self.seed,
            odd=odd * random.random(),
            seconds=scale * random.choice((0.0, 1.0)),
            width=random.choice((2, 4, 12)),
            flaky=not self.steady and random.random() < 0.5,
            hangs=hangs,
            on_request=self.moment,
        )
        limits = Limits(
            stages=random.randint(1, 6),
            plan_tokens=random.choice((20, 200, 8000)),
            execution_tokens=random.choice((5, 50, 8000)),
            concurrency=random.choice((None, None, 1, 3)),
            call_seconds=5 * scale,
        )
        self.sprint = self._sprint(limits, self._budget(scale), depth=0)

    @property
    def budget(self) -> Budget:
        """The budget of one run."""
        return self.sprint.budget

    @property
    def calls_functions(self) -> bool:
        """Whether every execution is one call of a function."""
        executors = [kind for kind in self.kinds if kind.startswith("executor: ")]
        once = "failure: retry" not in self.kinds
        return once and executors in (["executor: function"], ["executor: async function"])

    def _note(self, kind: str, name: str) -> None:
        self.kinds.append(f"{kind}: {name}")

    def _budget(self, scale: float) -> Budget:
        random = self.random
        bounds = {
            "tokens": random.choice((1, 30, 300, 3000)),
            "calls": random.choice((1, 3, 10, 50)),
            "subtasks": random.choice((1, 3, 10)),
            "seconds": scale * random.choice((0.3, 1.0, 4.0)),
        }
        chosen = [] if self.steady else [name for name in bounds if random.random() < 0.2]
        for name in chosen:
            self._note("budget", name)
        return Budget(**{name: bounds[name] for name in chosen})

    def _sprint(self, limits: Limits, budget: Budget, *, depth: int) -> Sprint[Any, Any]:
        random = self.random
        engine_kind = random.choice(("tags", "tags", "json", "chat", "server"))
        engine, json = self._engine(engine_kind), engine_kind != "tags"
        name, policy = self._policy()
        executor_name, executor = self._executor(engine_kind, limits, depth)
        modes = ("collect", "fail_fast") if self.real else ("collect", "fail_fast", "retry")
        failure = random.choice(modes)
        checker = random.choice((None, None, self.functions.check, self.functions.check_on_loop))
        self._note("policy", name)
        self._note("executor", executor_name)
        self._note("failure", failure)
        if checker is not None:
            self._note("checker", "async" if checker == self.functions.check_on_loop else "sync")
        return Sprint(
            engine,
            policy=policy,
            planner=Planner(random.choice((str, str, str, int))),
            executor=executor,
            limits=limits,
            budget=budget,
            failure=failure,
            checker=checker,
            dialect="json" if json else None,
        )

    def _engine(self, kind: str) -> Engine:
        random = self.random
        self._note("engine", kind)
        if kind == "server":
            self.servers.append(LyingServer(self.model))
            return self.servers[-1].engine()
        token = self.model.seconds * random.choice((0.0, 0.01))
        engine = FakeEngine(
            self.model,
            latency=Latency(request=token, token=token),
            chunk_tokens=random.choice((None, 1, 3)),
            context_limit=None if random.random() < 0.9 else random.choice((20, 200, 1000)),
            end_text="<|im_end|>" if kind == "chat" else "",
            capabilities=Capabilities(chat=_CHATML if kind == "chat" else None, caches_running=random.random() < 0.7),
        )
        self.fakes.append(engine)
        return engine

    def _executor(self, engine: str, limits: Limits, depth: int) -> tuple[str, Any]:
        random, functions = self.random, self.functions
        kind = random.choice(("model", "typed", "tools", "function", "async function", "sprint", "other engine"))
        if kind == "typed":
            return kind, Executor(int, attempts=random.randint(1, 3))
        if kind == "tools" and engine != "tags":
            tools = functions.tools()
            self.model.tools = (*(tool.__name__ for tool in tools), "unknown")
            return kind, Executor(str, tools=tools, tool_timeout=limits.call_seconds, tool_turns=random.randint(1, 4))
        if kind == "function":
            return kind, functions.sync
        if kind == "async function":
            return kind, functions.on_loop
        if kind == "sprint" and depth < 2:
            return kind, self._sprint(limits, self._budget(limits.call_seconds / 5), depth=depth + 1)
        if kind == "other engine":
            return kind, Executor(str, engine=self._engine(engine))
        return "model", Executor(str)

    def _policy(self) -> tuple[str, Policy]:
        random, functions = self.random, self.functions
        check = random.choice((functions.check, functions.check_on_loop))
        inner = random.choice((interleaved, sequential, dag(), skeleton()))
        steady: dict[str, Policy] = {
            "interleaved": interleaved,
            "sequential": sequential,
            "self_consistency": self_consistency(samples=random.randint(1, 4), judge=random.random() < 0.3),
            "skeleton": skeleton(merge=random.choice((None, functions.sync))),
            "spawn_join": spawn_join(depth=random.randint(0, 2), share=random.choice((0.5, 1.0))),
            "fork_join_async": fork_join_async(ahead=random.randint(0, 2)),
            "dag": dag(random.choice((None, lambda planning: Plan.of("a", "b", "c", after={2: (1,), 3: (1, 2)})))),
            "as_needed": as_needed(check=random.choice((None, check)), depth=random.randint(0, 2)),
            "tree_search": tree_search(random.choice((None, functions.check)), depth=random.randint(1, 2)),
            "aggregation": aggregation(),
            "limit_width": limit_width(inner, random.randint(1, 3)),
            "with_fallback": with_fallback(sequential, inner, check=random.choice((None, check))),
            "until": until(inner, check, attempts=random.randint(1, 3), feedback=random.choice((None, _note_of))),
        }
        others: dict[str, Policy] = {
            "first_success": first_success(inner, check),
            "race": race(interleaved, inner, sequential, check=random.choice((None, check))),
        }
        if self.steady:
            return random.choice(list(steady.items()))
        if random.random() < 0.15:
            policy = random.choice(policies(random, functions))
            return f"own: {policy.__name__}", policy
        return random.choice(list((steady | others).items()))


def _note_of(attempt: Any) -> str:
    return f"The attempt {attempt.text!r} was not good: <think>"
