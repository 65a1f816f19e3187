import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from sprint_agents.testing import Prompt, Reply

EXECUTION = re.compile(r"<execution_(\d+)\.(\d+)>\n$")


@pytest.fixture(scope="session")
def model() -> Callable[..., Callable[[Prompt], Reply | str]]:
    """A scripted model in the tag format: what it plans per stage, what each execution says, and its answer."""

    def make(
        *plans: list[str],
        answer: str = "done",
        execute: Callable[[int, int], Reply | str] = lambda stage, number: f"result {stage}.{number}\n",
    ) -> Callable[[Prompt], Reply | str]:
        def respond(prompt: Prompt) -> Reply | str:
            text = prompt.text
            if match := EXECUTION.search(text):
                stage, number = int(match[1]), int(match[2])
                reply = execute(stage, number)
                reply = Reply(reply) if isinstance(reply, str) else reply
                return replace(reply, text=f"{reply.text}</execution_{stage}.{number}>")
            if text.endswith("<Final_answer>\n"):
                return f"\\boxed{{{answer}}}\n</Final_answer>"
            stage = text.count("</Plan_") + 1
            if stage > len(plans):
                return f"<Final_answer>\n\\boxed{{{answer}}}\n</Final_answer>"
            prompts = "".join(
                f"<prompt_{stage}.{number}>{prompt}</prompt_{stage}.{number}>\n"
                for number, prompt in enumerate(plans[stage - 1], 1)
            )
            return f"<Plan_{stage}>\nthinking\n{prompts}</Plan_{stage}>"

        return respond

    return make
