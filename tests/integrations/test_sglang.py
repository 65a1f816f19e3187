"""The bridges with fakes of SGLang's classes; ``tests/sglang/test_bridges.py`` uses the real ones."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tokenizers

from sprint_agents import Executor, Sampling, State
from sprint_agents.context import Context
from sprint_agents.dialects import choose_dialect
from sprint_agents.engine import Engine, Request
from sprint_agents.engines.sglang import SGLangEngine
from sprint_agents.errors import ConfigurationError, EngineRejected, EngineUnavailable, InvalidRequest, NoChatTemplate
from sprint_integrations.sglang import InProcessEngine, execute
from tests.chat_templates import settings

GREEDY = Sampling(temperature=0)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    vocabulary = {word: number for number, word in enumerate("abcdefgh")}
    tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, "a")).save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": len(vocabulary)}))
    return tmp_path


class Offline:
    """Answers every request with the ids 1, 2, 3."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.tokenizer_manager = SimpleNamespace(
            model_config=SimpleNamespace(context_len=16), abort_request=lambda *, rid: self.aborted.append(rid)
        )
        self.asked: list[dict[str, Any]] = []
        self.aborted: list[str] = []
        self.refuses = False

    async def async_generate(self, **options: Any) -> AsyncIterator[dict[str, Any]]:
        self.asked.append(options)
        return self._events(len(options["input_ids"]))

    async def _events(self, prompt: int) -> AsyncIterator[dict[str, Any]]:
        if self.refuses:
            raise ValueError("temperature must be a non-negative finite number")
        for count in (1, 2, 3):
            reason = {"type": "stop", "matched": 3} if count == 3 else None
            meta = {
                "prompt_tokens": prompt,
                "cached_tokens": prompt - 1,
                "completion_tokens": count,
                "finish_reason": reason,
            }
            yield {"text": "bcd"[:count], "output_ids": [1, 2, 3][:count], "meta_info": meta}


def play(offline: Offline, checkpoint: Path, scene: Callable[[InProcessEngine], Awaitable[None]]) -> None:
    async def main() -> None:
        async with InProcessEngine(offline, checkpoint) as engine:
            await scene(engine)

    try:
        offline.loop.run_until_complete(main())
    finally:
        offline.loop.close()


async def state(engine: Engine) -> State:
    return State(engine, Context().extend([4, 5], "ef"), sampling=GREEDY)


def test_in_process_streams_the_completion(checkpoint: Path) -> None:
    offline = Offline()

    async def scene(engine: InProcessEngine) -> None:
        assert isinstance(engine, Engine)
        done = await (await state(engine)).generate(max_tokens=9)
        assert (done.ids, done.text) == ([1, 2, 3], "bcd")
        assert done.finish is not None
        assert (done.finish.matched, done.finish.prompt_tokens, done.finish.cached_tokens) == (3, 2, 1)
        (asked,) = offline.asked
        assert (asked["input_ids"], asked["stream"], asked["sampling_params"]["max_new_tokens"]) == ([4, 5], True, 9)
        assert offline.aborted == []

    play(offline, checkpoint, scene)


def test_in_process_leaving_a_stream_aborts_it(checkpoint: Path) -> None:
    offline = Offline()

    async def scene(engine: InProcessEngine) -> None:
        async with (await state(engine)).stream(max_tokens=9) as generation:
            await anext(generation)
        assert offline.aborted == [offline.asked[0]["rid"]]

    play(offline, checkpoint, scene)


def test_in_process_a_refusal_is_ours(checkpoint: Path) -> None:
    offline = Offline()

    async def scene(engine: InProcessEngine) -> None:
        with pytest.raises(InvalidRequest, match="has 8 ids"):
            await State(engine, Context().extend([8], "?")).generate(max_tokens=1)
        offline.refuses = True
        with pytest.raises(EngineRejected, match="temperature"):
            await (await state(engine)).generate(max_tokens=1)

    play(offline, checkpoint, scene)


def test_in_process_works_on_sglangs_loop_only(checkpoint: Path) -> None:
    offline = Offline()

    async def elsewhere() -> None:
        with pytest.raises(ConfigurationError, match="run_until_complete"):
            await (await state(InProcessEngine(offline, checkpoint))).generate(max_tokens=1)

    asyncio.run(elsewhere())
    offline.loop.close()


class TestConversations:
    """Turns and dialect are those of ``SGLangEngine`` for the same checkpoint."""

    @staticmethod
    def template(checkpoint: Path, name: str) -> None:
        (checkpoint / "tokenizer_config.json").write_text(json.dumps(settings(name)))

    @pytest.mark.parametrize("name", ["chatml", "llama-3", "deepseek-r1"])
    def test_turns_are_marked_as_the_checkpoint_does(self, checkpoint: Path, name: str) -> None:
        self.template(checkpoint, name)
        offline = Offline()
        engine, served = InProcessEngine(offline, checkpoint), SGLangEngine("http://127.0.0.1:1", tokenizer=checkpoint)
        offline.loop.close()
        assert engine.capabilities == served.capabilities
        kinds = [type(choose_dialect(None, one, executors=one)) for one in (engine, served)]
        assert kinds[0] is kinds[1]

    def test_a_checkpoint_without_a_template_has_none(self, checkpoint: Path) -> None:
        offline = Offline()
        engine, served = InProcessEngine(offline, checkpoint), SGLangEngine("http://127.0.0.1:1", tokenizer=checkpoint)
        offline.loop.close()
        for one in (engine, served):
            assert one.capabilities.chat is None
            assert isinstance(one.capabilities.chat_error, NoChatTemplate)

    def test_thoughts_come_before_a_schema(self, checkpoint: Path) -> None:
        offline = Offline()

        async def scene(engine: InProcessEngine) -> None:
            request = Request(
                id="r-1",
                context=Context().extend([4], "e"),
                max_tokens=9,
                sampling=GREEDY,
                schema='{"type": "string"}',
                thoughts="may",
            )
            assert [token async for chunk in engine.complete(request) for token in chunk.ids] == [1, 2, 3]
            free, held = (asked["sampling_params"] for asked in offline.asked)
            assert "json_schema" not in free
            assert held["json_schema"] == '{"type": "string"}'

        play(offline, checkpoint, scene)


class Program:
    """A program state whose branches write what their text asks for, each on its own thread."""

    def __init__(self, text: str = "", error: Exception | None = None) -> None:
        self.text = text
        self.failed = error
        self.log: list[str] = []
        self.forks: list[Program] = []
        self.stream_executor = SimpleNamespace(submit=self._submit, end=lambda: self.log.append("end"))

    def fork(self, size: int) -> Any:
        self.log.append("fork")
        self.forks = [Program(self.text) for _ in range(size)]
        return SimpleNamespace(states=self.forks)

    def _submit(self, expression: Any) -> None:
        text, _ = expression
        self.failed = RuntimeError("refused") if "bad" in text else None
        self.text = text.strip()

    def error(self) -> Exception | None:
        self.log.append("error")
        return self.failed

    def get_var(self, name: str) -> str:
        return self.text

    def get_meta_info(self, name: str) -> dict[str, int]:
        return {"prompt_tokens": 5, "cached_tokens": 4, "completion_tokens": 2}


class Expression:
    def __init__(self, **options: Any) -> None:
        self.options = options

    def __radd__(self, text: str) -> tuple[str, "Expression"]:
        return text, self


@pytest.fixture
def _frontend(monkeypatch: pytest.MonkeyPatch) -> None:
    module = SimpleNamespace(gen=lambda name, **options: Expression(**options))
    monkeypatch.setitem(sys.modules, "sglang", module)


@pytest.mark.usefixtures("_frontend")
def test_executors_on_the_branches_of_a_program() -> None:
    program = Program()
    executions = asyncio.run(execute(program, [" 7", " bad", " x"], Executor(int)))
    assert program.log == ["error", "fork"]
    assert [execution.value for execution in executions] == [7, None, None]
    assert [execution.failure.type for execution in executions if execution.failure] == [
        "RuntimeError",
        "InvalidResult",
    ]
    assert executions[0].usage.cached_tokens == 4
    assert all(branch.log == ["error", "end"] for branch in program.forks)


@pytest.mark.usefixtures("_frontend")
def test_a_program_that_failed_does_not_fork() -> None:
    program = Program(error=RuntimeError("no server"))
    with pytest.raises(EngineUnavailable, match="no server"):
        asyncio.run(execute(program, ["a"], Executor(str)))
    assert program.log == ["error"]
    assert asyncio.run(execute(program, [], Executor(str))) == []
