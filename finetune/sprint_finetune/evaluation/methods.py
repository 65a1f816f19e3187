"""How it is solved: a policy on an engine, under a name."""

from dataclasses import dataclass, field

from sprint_agents import Engine, Limits, Policy, Sampling
from sprint_agents.sprint import Sprint


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One way to solve a case; two methods on two engines may be a model and its sequential twin.

    A ``seed`` is added to ``sampling`` for each repetition, so repetitions differ only where the model draws.
    """

    name: str
    engine: Engine
    policy: Policy | str = "interleaved"
    sampling: Sampling = field(default_factory=lambda: Sampling(temperature=0))
    limits: Limits | None = None

    def sprint(self, *, seed: int) -> Sprint[str]:
        """Make what runs a case."""
        return Sprint(
            self.engine,
            policy=self.policy,
            sampling=self.sampling.model_copy(update={"seed": seed}),
            limits=self.limits,
        )
