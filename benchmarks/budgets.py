"""Measure what a budget of tokens costs a fan-out: time, width and requests, in virtual time on the scripted engine.

    python benchmarks/budgets.py

A policy's plan has 64 subtasks, all of the same length or very uneven, or the planner's model writes the plan. A token
takes 20 ms and a request 50 ms. Budgets are multiples of the tokens that the run uses without one. "Whole caps" is an
engine that cannot continue a completion, so each request reserves its cap of 8,000 tokens. Width is the most requests
at the same time, compared with no budget; overshoot is how far the tokens generated and reserved together exceeded the
budget at any time.
"""

import random
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass

from sprint_agents import Answer, Budget, Capabilities, Chunk, Plan, Planning, Request, Sprint, Stage, Step
from sprint_agents.policies import Policy, interleaved
from sprint_agents.testing import FakeEngine, Latency, Prompt, run_virtual

WIDTH = 64
TOKENS = 52
LATENCY = Latency(request=0.05, token=0.02)
EXECUTION = re.compile(r"<execution_1\.(\d+)>\n$")


class WatchedEngine(FakeEngine):
    """Records the most tokens that were generated and reserved at the same time."""

    outstanding = 0
    generated = 0
    highest = 0

    async def complete(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Stream a completion, whose tokens are reserved until it ends."""
        self.outstanding += request.max_tokens
        self.highest = max(self.highest, self.generated + self.outstanding)
        stream, generated = super().complete(request), 0
        try:
            async for chunk in stream:
                generated += len(chunk.ids)
                yield chunk
        finally:
            await stream.aclose()
            self.outstanding -= request.max_tokens
            self.generated += generated


def model(lengths: Sequence[int]) -> Callable[[Prompt], str]:
    """Script a model that plans one subtask for each length, and executes it in as many tokens."""
    prompts = "".join(f"<prompt_1.{number}>part {number}</prompt_1.{number}>" for number in range(1, len(lengths) + 1))

    def respond(prompt: Prompt) -> str:
        if match := EXECUTION.search(prompt.tail(30)):
            number = int(match[1])
            return " go" * (lengths[number - 1] - 1) + f"</execution_1.{number}>"
        return (
            r"<Final_answer>\boxed{done}</Final_answer>"
            if "</Plan_1>" in prompt.text
            else f"<Plan_1>{prompts}</Plan_1>"
        )

    return respond


async def fan_out(planning: Planning) -> AsyncGenerator[Step, Stage[str]]:
    """Plan all parts at once."""
    yield Plan.of(*(f"part {number}" for number in range(1, WIDTH + 1)))
    yield Answer(value="done")


@dataclass(frozen=True)
class Measurement:
    """The cost of one run; ``used`` counts tokens."""

    seconds: float
    width: int
    requests: int
    used: int
    overshoot: int


def measure(lengths: Sequence[int], policy: Policy, tokens: int | None, *, whole: bool = False) -> Measurement:
    """Run the fan-out once."""
    engine = WatchedEngine(model(lengths), latency=LATENCY, capabilities=Capabilities() if whole else None)
    budget = None if tokens is None else Budget(tokens=tokens)
    run = run_virtual(Sprint(engine, policy=policy, budget=budget).run("Go."))
    assert run.usage.failures == 0
    account = engine.account()
    overshoot = 0 if tokens is None else max(0, engine.highest - tokens)
    return Measurement(run.usage.seconds, account.peak, account.started, account.generated_tokens, overshoot)


def main() -> None:
    """Measure and print the table."""
    draw = random.Random(1)
    equal = [TOKENS] * WIDTH
    uneven = [max(2, round(draw.expovariate(1 / TOKENS))) for _ in equal]
    print("| fan-out | budget | tokens | seconds | width | requests | overshoot |\n|---|---|---|---|---|---|---|")
    for name, lengths, policy in (
        ("64 equal subtasks", equal, fan_out),
        ("64 uneven subtasks", uneven, fan_out),
        ("64 equal subtasks of a model's plan", equal, interleaved),
    ):
        free = measure(lengths, policy, None)
        print(f"| {name} | none | {free.used:,} used | {free.seconds:.2f} | 100 % | {free.requests} | |")
        for times, whole in ((3, False), (1.5, False), (1.1, False), (1, False), (3, True)):
            tokens = round(times * free.used)
            found = measure(lengths, policy, tokens, whole=whole)
            assert found.used == free.used
            print(
                f"| | {times:g} × the need{', whole caps' if whole else ''} | {tokens:,} | {found.seconds:.2f} | "
                f"{found.width / free.width:.0%} | {found.requests} | {found.overshoot} |".replace("%", " %")
            )


if __name__ == "__main__":
    main()
