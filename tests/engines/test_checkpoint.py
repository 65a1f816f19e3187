"""Checkpoint directories: templates render as in transformers, turns are found, and weights are told apart."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sprint_agents.dialects.conversation import Message
from sprint_agents.engine import ChatTurns
from sprint_agents.engines import ChatTemplate
from sprint_agents.engines.checkpoint import digest_weights, turns_of_checkpoint
from sprint_agents.errors import ConfigurationError, InvalidCheckpoint, NoChatTemplate
from tests.chat_templates import TEMPLATES, settings

EXACT = ["chatml", "llama-3", "mistral", "gemma"]
SAID: list[Message] = [
    {"role": "user", "content": "Plan."},
    {"role": "assistant", "content": '{"subtasks": [{"prompt": "one"}]}'},
    {"role": "user", "content": "Carry it out."},
    {"role": "assistant", "content": '{"result": 1}'},
    {"role": "user", "content": "Answer."},
]
TOLD: list[Message] = [{"role": "system", "content": "Be brief."}, *SAID]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Callable[..., Path]:
    def make(name: str, **changes: Any) -> Path:
        content = json.dumps(settings(name) | changes)
        (tmp_path / "tokenizer_config.json").write_text(content, encoding="utf-8")
        return tmp_path

    return make


def turns_of(directory: Path, **chat: Any) -> ChatTurns:
    turns = turns_of_checkpoint(directory, ChatTemplate(**chat), extra="local")
    assert turns is not None
    return turns


def written(turns: ChatTurns, messages: list[Message]) -> str:
    said = [(message["role"], message["content"]) for message in messages]
    return turns.write(said) + turns.open("assistant")  # type: ignore[arg-type]


def by_transformers(name: str, messages: list[Message], **variables: Any) -> str:
    pytest.importorskip("transformers")
    from transformers.utils.chat_template_utils import render_jinja_template

    template, tokens = TEMPLATES[name]
    variables = {"add_generation_prompt": True, **tokens, **variables}
    (text,), _ = render_jinja_template([messages], chat_template=template, **variables)
    return text


@pytest.mark.parametrize("name", EXACT)
def test_a_conversation_is_what_transformers_makes_of_it(name: str, checkpoint: Callable[..., Path]) -> None:
    turns = turns_of(checkpoint(name))
    assert written(turns, SAID) == by_transformers(name, SAID)
    told = TOLD if name != "gemma" else [SAID[0] | {"content": "Be brief.\n\nPlan."}, *SAID[1:]]
    assert written(turns, TOLD) == by_transformers(name, told)


@pytest.mark.parametrize("name", ["mistral", "gemma"])
def test_speakers_that_must_take_turns_are_known(name: str, checkpoint: Callable[..., Path]) -> None:
    assert turns_of(checkpoint(name)).alternate
    assert not turns_of(checkpoint("chatml")).alternate


class TestWhatRewritesHistory:
    def test_is_refused_with_what_to_do(self, checkpoint: Callable[..., Path]) -> None:
        renamed = TEMPLATES["chatml"][0].replace("'<|im_start|>assistant\n'", "'<|im_start|>model\n'")
        with pytest.raises(InvalidCheckpoint, match=r"rewrites history: it opens .*<\|im_start\|>model") as caught:
            turns_of(checkpoint("chatml", chat_template=renamed))
        assert "ChatTemplate(history='as_written')" in str(caught.value)
        assert isinstance(caught.value, ConfigurationError)
        turns_of(checkpoint("chatml", chat_template=renamed), history="as_written")

    @pytest.mark.parametrize("history", ["exact", "as_written"])
    @pytest.mark.parametrize(
        ("name", "variables", "thoughts"),
        [
            ("chatml", {}, "none"),
            ("qwen-3", {}, "may"),
            ("qwen-3", {"enable_thinking": False}, "none"),
            ("deepseek-r1", {}, "open"),
        ],
    )
    def test_thoughts_are_no_history(
        self, name: str, variables: dict[str, bool], thoughts: str, history: str, checkpoint: Callable[..., Path]
    ) -> None:
        assert turns_of(checkpoint(name), history=history, variables=variables).thoughts == thoughts

    def test_thoughts_are_opened_as_the_template_does(self, checkpoint: Callable[..., Path]) -> None:
        turns = turns_of(checkpoint("deepseek-r1"))
        assert turns.open("assistant") == "<｜Assistant｜><think>\n"
        asked = TOLD[:2]
        assert written(turns, asked) == by_transformers("deepseek-r1", asked)

    def test_variables_reach_the_template(self, checkpoint: Callable[..., Path]) -> None:
        turns = turns_of(checkpoint("qwen-3"), variables={"enable_thinking": False})
        assert written(turns, TOLD[:2]) == by_transformers("qwen-3", TOLD[:2], enable_thinking=False)

    def test_a_template_of_ones_own(self, checkpoint: Callable[..., Path]) -> None:
        turns = turns_of(checkpoint("qwen-3"), template=TEMPLATES["chatml"][0])
        assert written(turns, TOLD) == by_transformers("chatml", TOLD)

    def test_turns_that_depend_on_how_many_there_are(self, checkpoint: Callable[..., Path]) -> None:
        counted = (
            "{% for m in messages %}<{{ m.role }}{{ messages | length if m.content == 'Plan.' }}>{{ m.content }}<end>"
            "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
        )
        with pytest.raises(InvalidCheckpoint, match="a longer conversation differently from those of a shorter"):
            turns_of(checkpoint("chatml", chat_template=counted))


class TestWhereATemplateStands:
    def test_in_a_file_of_its_own_before_all(self, checkpoint: Callable[..., Path]) -> None:
        directory = checkpoint("gemma", bos_token={"content": "<s>"}, eos_token="</s>")
        (directory / "chat_template.jinja").write_text(TEMPLATES["mistral"][0], encoding="utf-8")
        assert written(turns_of(directory), SAID) == by_transformers("mistral", SAID)

    def test_by_name(self, checkpoint: Callable[..., Path]) -> None:
        named = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": TEMPLATES["chatml"][0]}]
        assert written(turns_of(checkpoint("gemma", chat_template=named)), SAID) == by_transformers("chatml", SAID)

    @pytest.mark.parametrize("content", [None, "{}", "[]"])
    def test_nowhere(self, content: str | None, tmp_path: Path) -> None:
        if content is not None:
            (tmp_path / "tokenizer_config.json").write_text(content)
        with pytest.raises(NoChatTemplate, match="has no chat template"):
            turns_of_checkpoint(tmp_path, ChatTemplate(), extra="local")

    def test_in_a_damaged_file(self, tmp_path: Path) -> None:
        (tmp_path / "tokenizer_config.json").write_text("{")
        with pytest.raises(InvalidCheckpoint, match=r"tokenizer_config\.json cannot be read"):
            turns_of(tmp_path)

    def test_that_is_no_jinja(self, checkpoint: Callable[..., Path]) -> None:
        with pytest.raises(InvalidCheckpoint, match="is not valid Jinja"):
            turns_of(checkpoint("chatml", chat_template="{% for %}"))

    def test_that_reaches_for_more_than_text(self, checkpoint: Callable[..., Path]) -> None:
        with pytest.raises(InvalidCheckpoint, match="cannot be continued"):
            turns_of(checkpoint("chatml", chat_template="{{ messages.__class__.__mro__ }}"))


def test_what_templates_may_use(checkpoint: Callable[..., Path]) -> None:
    template = (
        "{{ strftime_now('%Y') }}{% for m in messages %}{% if m.role == 'nobody' %}{% continue %}{% endif %}"
        "<{{ m.role }}>{% generation %}{{ m.content }}{% endgeneration %}{{ ['é<'] | tojson }}{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    turns = turns_of(checkpoint("chatml", chat_template=template))
    assert turns.close("user") == '["é<"]'


def test_weights_are_told_apart_by_their_files(tmp_path: Path) -> None:
    def written(name: str, content: bytes) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(content)
        return folder

    content = bytes(range(256)) * 4_000
    trained = bytes(byte ^ (number % 7 == 0) for number, byte in enumerate(content))
    same = {digest_weights(written(name, content)) for name in ("a", "copy of a")}
    assert len(same) == 1
    assert len(same | {digest_weights(written("trained", trained)), digest_weights(written("cut", content[:-1]))}) == 3
    assert digest_weights(tmp_path) is None
