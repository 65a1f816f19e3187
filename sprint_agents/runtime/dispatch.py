"""The dispatch of a planner's subtasks: each as its prompt closes, or all of them after the review of the plan.

Invariant: with a review, no subtask is started before its verdict.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sprint_agents.dialects.completions import Diagnostic, PromptClosed
from sprint_agents.generation import Generation
from sprint_agents.plan import Plan, Subtask

from .branches import Branches
from .progress import unknown_dependencies


@dataclass(slots=True)
class Dispatch:
    """The subtasks of plan ``number``, as its model writes it.

    Attributes:
        waits: for the review of the whole plan.
        prompt_ends: the number of each subtask that was started, and where its prompt ended in the completion.
        unknown: the subtasks that a prompt waits for although they do not precede it.
    """

    branches: Branches
    number: int
    waits: bool
    prompt_ends: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    unknown: list[Diagnostic] = field(default_factory=list[Diagnostic])
    _waiting: dict[int, tuple[Subtask, PromptClosed]] = field(default_factory=dict[int, tuple[Subtask, PromptClosed]])

    async def take(self, generation: Generation, prompts: Sequence[PromptClosed]) -> None:
        """Start the subtasks whose prompts have closed, or have them wait."""
        for prompt in prompts:
            subtask = self._subtask(prompt)
            if self.waits:
                self._waiting[subtask.number] = subtask, prompt
                continue
            context = await generation.cut(prompt.end)
            written = generation.tokens_before(prompt.end)
            await self.branches.start(subtask, context, rest=prompt.rest, plan_tokens=written)
            self.prompt_ends.append((prompt.number, prompt.end))

    def proposed(self, text: str) -> Plan:
        """Return the subtasks that wait, as a plan with this ``text`` around them."""
        return Plan(subtasks=tuple(subtask for subtask, _ in self._waiting.values()), text=text)

    async def start_waiting(self, generation: Generation) -> None:
        """Start the subtasks that wait, as the model wrote them."""
        for subtask, prompt in self._waiting.values():
            context = await generation.cut(prompt.end)
            await self.branches.start(subtask, context, rest=prompt.rest)

    def _subtask(self, prompt: PromptClosed) -> Subtask:
        subtask = Subtask(number=prompt.number, prompt=prompt.prompt)
        if not prompt.after:
            return subtask
        known = (*self.branches.numbers, *self._waiting)
        self.unknown.extend(unknown_dependencies(prompt, known, self.number))
        return subtask.model_copy(update={"after": tuple(other for other in prompt.after if other in known)})
