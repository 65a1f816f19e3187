"""How ``SGLangEngine`` learns to mark turns: from the server, a checkpoint's directory, or the caller."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from sprint_agents import Sprint
from sprint_agents.dialects import choose_dialect, turns_of_engine
from sprint_agents.engines import ChatTemplate
from sprint_agents.engines.sglang import SGLangEngine
from sprint_agents.errors import InvalidCheckpoint, MissingExtra, NoChatTemplate
from tests.chat_templates import TEMPLATES, settings

from .scripted import ScriptedServer
from .test_engine import checkpoint

SAID = [("system", "Be brief."), ("user", "Plan."), ("assistant", "1, 2"), ("user", "Go on.")]


def renders(name: str) -> Callable[..., str]:
    """A server's chat template."""
    source, tokens = TEMPLATES[name]

    def refuse(message: str) -> None:
        raise ValueError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(source, globals={"raise_exception": refuse})

    def render(messages: Any, *, add_generation_prompt: bool, **variables: Any) -> str:
        prompts = {"messages": messages, "add_generation_prompt": add_generation_prompt}
        return template.render(**prompts, **tokens, **variables)

    return render


def play(
    scene: Callable[[SGLangEngine, ScriptedServer], Awaitable[None]],
    *,
    template: str | None = None,
    model_path: str = "/nowhere/tiny",
    **options: Any,
) -> None:
    async def main() -> None:
        server = ScriptedServer(render=renders(template) if template else None, model_path=model_path)
        async with server, SGLangEngine(server.url, **options) as engine:
            await scene(engine, server)

    asyncio.run(main())


@pytest.mark.parametrize("name", ["chatml", "llama-3", "mistral", "gemma"])
def test_the_server_is_asked(name: str) -> None:
    async def scene(engine: SGLangEngine, _: ScriptedServer) -> None:
        assert engine.capabilities.chat is not None
        said = SAID if name != "gemma" else [("user", "Be brief.\n\nPlan."), *SAID[2:]]
        messages = [{"role": role, "content": content} for role, content in said]
        expected = renders(name)(messages, add_generation_prompt=True)
        assert engine.capabilities.chat.write(SAID) + engine.capabilities.chat.open("assistant") == expected  # type: ignore[arg-type]

    play(scene, template=name)


def test_a_template_that_rewrites_history_shows_when_it_is_needed() -> None:
    async def scene(engine: SGLangEngine, _: ScriptedServer) -> None:
        with pytest.raises(InvalidCheckpoint, match="longer conversation differently"):
            await Sprint(engine, dialect="json").run("Add.")

    counted = (
        "{% for m in messages %}<{{ m.role }}{{ messages | length if m.content == 'Plan.' }}>{{ m.content }}<end>"
        "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    play(scene, chat=ChatTemplate(template=counted))


@pytest.mark.parametrize(("name", "thoughts"), [("qwen-3", "may"), ("deepseek-r1", "open"), ("chatml", "none")])
def test_a_reasoning_model_is_known_by_its_template(name: str, thoughts: str) -> None:
    async def scene(engine: SGLangEngine, _: ScriptedServer) -> None:
        assert engine.capabilities.chat is not None
        assert engine.capabilities.chat.thoughts == thoughts

    play(scene, template=name)


def test_what_the_template_is_told() -> None:
    async def scene(engine: SGLangEngine, _: ScriptedServer) -> None:
        assert engine.capabilities.chat is not None
        assert engine.capabilities.chat.open("assistant") == "<|im_start|>assistant\n<think>\n\n</think>\n\n"

    chat = ChatTemplate(variables={"enable_thinking": False})
    play(scene, template="qwen-3", chat=chat)


def test_a_template_of_ones_own_is_not_asked_for() -> None:
    async def scene(engine: SGLangEngine, server: ScriptedServer) -> None:
        assert engine.capabilities.chat is not None
        assert engine.capabilities.chat.open("assistant") == "<|im_start|>assistant\n"
        assert "/tokenize" not in [exchange.path for exchange in server.exchanges]

    play(scene, template="gemma", chat=ChatTemplate(template=TEMPLATES["chatml"][0]))


def test_a_server_that_cannot_say_may_run_a_checkpoint_on_this_machine(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings("chatml")), encoding="utf-8")

    async def scene(engine: SGLangEngine, _: ScriptedServer) -> None:
        assert engine.capabilities.chat is not None
        assert engine.capabilities.chat.close("user") == "<|im_end|>\n"

    play(scene, model_path=str(tmp_path))


def test_a_tokenizers_directory_says_it_alone(tmp_path: Path) -> None:
    checkpoint(tmp_path, vocabulary=4)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings("chatml")), encoding="utf-8")

    async def scene(engine: SGLangEngine, server: ScriptedServer) -> None:
        assert engine.capabilities.chat is not None
        assert engine.capabilities.chat.close("user") == "<|im_end|>\n"
        assert "/tokenize" not in [exchange.path for exchange in server.exchanges]

    play(scene, template="gemma", tokenizer=tmp_path)


def test_nobody_has_a_template() -> None:
    async def scene(engine: SGLangEngine, _: ScriptedServer) -> None:
        assert engine.capabilities.chat is None
        assert turns_of_engine(engine) is None  # it may have been trained on tags

    play(scene)


def test_a_checkpoint_on_this_machine_without_a_template(tmp_path: Path) -> None:
    checkpoint(tmp_path, vocabulary=4)
    (tmp_path / "sprint.json").unlink()

    async def scene(engine: SGLangEngine, _: ScriptedServer) -> None:
        assert engine.capabilities.chat is None
        with pytest.raises(NoChatTemplate):
            choose_dialect(None, engine)

    play(scene, tokenizer=tmp_path)


def test_before_the_server_was_asked_nothing_is_known() -> None:
    async def main() -> None:
        async with ScriptedServer(render=renders("chatml")) as server:
            engine = SGLangEngine(server.url)
            assert engine.capabilities.chat is None
            async with engine:
                assert engine.capabilities.chat is not None

    asyncio.run(main())


def test_without_jinja(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint(tmp_path, vocabulary=4)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings("chatml")), encoding="utf-8")
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    engine = SGLangEngine("http://127.0.0.1:1", tokenizer=tmp_path)
    assert engine.capabilities.chat is None
    assert isinstance(engine.capabilities.chat_error, MissingExtra)
    for _ in range(2):
        with pytest.raises(MissingExtra, match=r"needs jinja2.*sprint-agents\[sglang\]"):
            turns_of_engine(engine)
