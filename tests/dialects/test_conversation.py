from collections.abc import Callable
from functools import partial

import pytest

from sprint_agents.dialects.conversation import Message, turns_of_template
from sprint_agents.engine import ChatTurns
from sprint_agents.errors import InvalidCheckpoint

Template = Callable[[list[Message]], str]


def chatml(messages: list[Message]) -> str:
    return "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)


def qwen25(messages: list[Message]) -> str:
    """Adds a system turn where there is none."""
    default = [] if messages[0]["role"] == "system" else [{"role": "system", "content": "You are Qwen."}]
    return chatml([*default, *messages])


def qwen3(messages: list[Message]) -> str:
    """Writes the last answer as one that was thought about."""
    *earlier, last = messages
    if last["role"] == "assistant":
        last = last | {"content": f"<think>\n\n</think>\n\n{last['content']}"}
    return chatml([*earlier, last])


def llama3(messages: list[Message]) -> str:
    """Always has a system's turn, with the date."""
    system = messages[0]["content"].strip() if messages[0]["role"] == "system" else ""
    others = messages[1:] if messages[0]["role"] == "system" else messages
    return (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
        f"Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n{system}<|eot_id|>"
    ) + "".join(f"<|start_header_id|>{m['role']}<|end_header_id|>\n\n{m['content'].strip()}<|eot_id|>" for m in others)


def deepseek(messages: list[Message]) -> str:
    marks = {"system": ("", ""), "user": ("<|User|>", ""), "assistant": ("<|Assistant|>", "<|end|>")}
    return "<|begin|>" + "".join(f"{marks[m['role']][0]}{m['content']}{marks[m['role']][1]}" for m in messages)


def mistral(messages: list[Message]) -> str:
    """Has no system's turn: its words open the first of the user."""
    if messages[0]["role"] == "system":
        system, user, *others = messages
        messages = [{"role": "user", "content": f"{system['content']}\n\n{user['content']}"}, *others]
    return "<s>" + "".join(
        f"[INST] {m['content']} [/INST]" if m["role"] == "user" else f"{m['content']}</s>" for m in messages
    )


def gemma(messages: list[Message]) -> str:
    """Refuses a system's turn."""
    names = {"user": "user", "assistant": "model"}
    return "<bos>" + "".join(
        f"<start_of_turn>{names[m['role']]}\n{m['content'].strip()}<end_of_turn>\n" for m in messages
    )


def mistral_v3(messages: list[Message]) -> str:
    """Moves the system's words into the last turn of the user, and drops them where that is not the last of all."""
    system = messages[0]["content"] if messages[0]["role"] == "system" else None
    others = messages[1:] if system else messages
    text = "<s>"
    for message in others:
        if message["role"] == "user":
            words = f"{system}\n\n" if system and message is others[-1] else ""
            text += f"[INST] {words}{message['content']}[/INST]"
        else:
            text += f" {message['content']}</s>"
    return text


PROMPTS: dict[Template, str] = {
    chatml: "<|im_start|>assistant\n",
    qwen25: "<|im_start|>assistant\n",
    qwen3: "<|im_start|>assistant\n",
    llama3: "<|start_header_id|>assistant<|end_header_id|>\n\n",
    deepseek: "<|Assistant|>",
    gemma: "<start_of_turn>model\n",
}


def render(template: Template, messages: list[Message], *, add_generation_prompt: bool) -> str:
    return template(messages) + (PROMPTS.get(template, "") if add_generation_prompt else "")


def spoken(template: Template, messages: list[Message]) -> list[Message]:
    """Write as the model does: a blank before answers that is missing after a prompt belongs to its first token."""
    blank = " " if template is mistral_v3 else ""
    return [m | {"content": blank + m["content"]} if m["role"] == "assistant" else m for m in messages]


def written(turns: ChatTurns, messages: list[Message]) -> str:
    text, before = "", "nothing"
    for message in messages:
        after = before if before in ("nothing", "system") else None
        text += turns.open(message["role"], after=after) + message["content"] + turns.close(message["role"])  # type: ignore[arg-type]
        before = message["role"]
    return text


USER_FIRST = [
    {"role": "user", "content": "Plan."},
    {"role": "assistant", "content": "1, 2"},
    {"role": "user", "content": "Do 1."},
]
SYSTEM_FIRST = [{"role": "system", "content": "Be brief."}, *USER_FIRST]


@pytest.mark.parametrize("template", [chatml, qwen25, qwen3, llama3, deepseek, mistral, gemma, mistral_v3])
def test_a_conversation_is_written_as_the_template_does(template: Template) -> None:
    turns = turns_of_template(partial(render, template))
    assert written(turns, spoken(template, USER_FIRST)) == template(USER_FIRST)
    if template not in (gemma, mistral_v3):
        assert written(turns, SYSTEM_FIRST) == template(SYSTEM_FIRST)


@pytest.mark.parametrize("template", [gemma, mistral_v3])
def test_without_a_systems_turn_its_words_open_the_users(template: Template) -> None:
    asked = [{"role": "user", "content": "Be brief.\n\nPlan."}, *USER_FIRST[1:]]
    said = spoken(template, SYSTEM_FIRST)
    assert written(turns_of_template(partial(render, template)), said) == template(asked)


@pytest.mark.parametrize(
    ("template", "opens", "closes"),
    [
        (chatml, "<|im_start|>assistant\n", "<|im_end|>\n"),
        (llama3, "<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>"),
        (gemma, "<start_of_turn>model\n", "<end_of_turn>\n"),
        (mistral, "", "</s>"),
    ],
)
def test_the_model_begins_and_ends_where_it_was_trained_to(template: Template, opens: str, closes: str) -> None:
    turns = turns_of_template(partial(render, template))
    assert (turns.open("assistant"), turns.close("assistant")) == (opens, closes)
    # What stands before the model's own words is what the template puts before an answer.
    said = template([{"role": "user", "content": "Plan."}, {"role": "assistant", "content": "1, 2"}])
    assert said.partition("Plan.")[2].partition("1, 2")[0] == turns.close("user") + turns.open("assistant")


@pytest.mark.parametrize(
    "template",
    [
        lambda messages: "".join(m["content"] for m in reversed(messages)),
        lambda messages: messages[-1]["content"],
        lambda messages: messages[0]["name"],
    ],
)
def test_a_template_that_cannot_be_continued(template: Template) -> None:
    with pytest.raises(InvalidCheckpoint, match="cannot be continued"):
        turns_of_template(partial(render, template))
