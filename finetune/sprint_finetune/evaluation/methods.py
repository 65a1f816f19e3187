"""The methods of an evaluation: a policy on an engine, with a name."""

from dataclasses import dataclass, field

from sprint_agents import Engine, Limits, Policy, Sampling
from sprint_agents.sprint import Sprint


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One way to solve a case. Two methods on two engines may be a model and its sequential twin.

    Each repetition adds its ``seed`` to ``sampling``, so repetitions differ only where the model samples.
    """

    name: str
    engine: Engine
    policy: Policy | str = "interleaved"
    sampling: Sampling = field(default_factory=lambda: Sampling(temperature=0))
    limits: Limits | None = None

    def sprint(self, *, seed: int) -> Sprint[str]:
        """Return the ``Sprint`` that runs a case."""
        return Sprint(
            self.engine,
            policy=self.policy,
            sampling=self.sampling.model_copy(update={"seed": seed}),
            limits=self.limits,
        )
