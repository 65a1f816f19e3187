r"""Texts that stop a program, or that its parts do not read: endless blanks, endless numbers, characters in halves."""

import json

import pytest

from sprint_agents import Answer, Executor, Planner, Sprint
from sprint_agents.engines.sglang.generate import GenerateReader
from sprint_agents.errors import EngineError, EngineProtocolError, EngineRejected, InvalidResult, UnsupportedTask
from sprint_agents.manifest import Manifest
from sprint_agents.nano import nano_path
from sprint_agents.testing import FakeEngine
from tests.engines.openai.scripted import answers
from tests.engines.openai.test_chat import heard

from .test_servers import wire

NANO = Manifest.model_validate_json((nano_path() / "sprint.json").read_text())
ENDLESS = "9" * 5000  # digits; Python reads at most 4,300
EMOJI = "\U0001f600"
HALVES = ("\ud83d", "\ude00")


class TestTasks:
    """A task is read in linear time; with a power of its length, none of these tests would end."""

    @pytest.mark.reported("run-llama/llama_index#22334", "vllm-project/vllm#55473")
    @pytest.mark.parametrize("word", ["compute", "what is", "calculate", "Use 1, 2 to make", "countdown", ""])
    @pytest.mark.parametrize("unit", [" ", "\t", "(", "1 - ", "-", "1/", "((1", "1 ", "=", "?", "\u00a0", "a "])
    def test_a_long_repetition_is_refused(self, word: str, unit: str) -> None:
        task = word + unit * (200_000 // len(unit)) + "x"
        with pytest.raises(UnsupportedTask):
            Sprint(FakeEngine("never", manifest=NANO)).run_sync(task)

    @pytest.mark.reported("NovaSky-AI/SkyThought#28")
    @pytest.mark.parametrize(
        "task",
        [
            f"countdown 1 2 {ENDLESS}",
            f"countdown {ENDLESS} 2 3",
            f"Use 1, {ENDLESS}, 3 to make 10.",
            f"compute ({ENDLESS} + 1) * 2",
            f"compute -{ENDLESS}/{ENDLESS} + 1",
            f"{ENDLESS} * 3",
            f"3 * {'0' * 5000}7",
            f"compute ({'1' * 400} * {'1' * 400}) * ({'1' * 400} * {'1' * 400})",
            "countdown 1 2 \u0661\u0662",
            "countdown 1 2 \u00b2",
            "countdown 1 2 1_000",
            "countdown 1 2 1e5000",
            "compute " + "(" * 5000 + "1" + ")" * 5000,
        ],
    )
    def test_a_number_that_no_problem_has_is_refused(self, task: str) -> None:
        with pytest.raises(UnsupportedTask):
            Sprint(FakeEngine("never", manifest=NANO)).run_sync(task)


@pytest.mark.reported("NovaSky-AI/SkyThought#28")
class TestNumbers:
    """An integer that Python does not read, or does not write, is an invalid result or data."""

    @pytest.mark.parametrize("kind", [int, dict[str, int], list[int], bool])
    def test_in_an_answer(self, kind: type) -> None:
        text = {int: ENDLESS, bool: ENDLESS, list[int]: f"[{ENDLESS}]"}.get(kind, f'{{"a": {ENDLESS}}}')
        with pytest.raises(InvalidResult):
            Sprint(FakeEngine(f"<Final_answer>{text}</Final_answer>"), planner=Planner(kind)).run_sync("t")

    def test_in_a_result(self) -> None:
        engine = FakeEngine({"": "<Plan_1><prompt_1.1>a</prompt_1.1></Plan_1>", "<execution_1.": ENDLESS})
        (execution,) = Sprint(engine, policy=_one_plan, executor=Executor(int)).run_sync("t").stages[0].executions
        assert execution.failure is not None
        assert execution.failure.type == "InvalidResult"

    def test_in_tags(self) -> None:
        tag = f"<prompt_{ENDLESS}.{ENDLESS}>a</prompt_{ENDLESS}.{ENDLESS}>"
        run = Sprint(FakeEngine(f"<Plan_{ENDLESS}>{tag}</Plan_1>"), policy=_one_plan).run_sync("t")
        assert run.stages[0].diagnostics

    def test_in_what_a_policy_answers(self) -> None:
        async def policy(planning):
            yield Answer(value=10**5000)

        with pytest.raises(InvalidResult, match="whose repr raised ValueError"):
            Sprint(FakeEngine("never"), policy=policy).run_sync("t")

    @pytest.mark.parametrize(
        "usage",
        [
            f'{{"prompt_tokens": {ENDLESS}, "completion_tokens": {ENDLESS}}}',
            f'{{"prompt_tokens": 9, "completion_tokens": -{ENDLESS}}}',
            f'{{"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {{"cached_tokens": {ENDLESS}}}}}',
        ],
    )
    def test_in_what_a_server_counts(self, usage: str) -> None:
        said = '{"choices": [{"index": 0, "delta": {"content": "four"}, "finish_reason": "stop"}]}'
        assert heard(wire(said, f'{{"choices": [], "usage": {usage}}}'))[0] == "four"

    def test_in_the_number_of_a_choice(self) -> None:
        said = f'{{"choices": [{{"index": {ENDLESS}, "delta": {{"content": "four"}}, "finish_reason": "stop"}}]}}'
        assert heard(wire(said))[0] == "four"

    def test_in_an_error(self) -> None:
        for error in (
            wire(f'{{"error": {{"message": "bad", "code": {ENDLESS}}}}}'),
            answers({"error": {"message": "bad"}}, 400),
        ):
            with pytest.raises(EngineError, match="bad"):
                heard(error)

    def test_in_an_event_of_sglang(self) -> None:
        data = frame("four", [1], 1, end=True).replace('"prompt_tokens": 3', f'"prompt_tokens": 3, "odd": {ENDLESS}')
        assert GenerateReader().read(data).text == "four"


async def _one_plan(planning):
    yield planning.ask()
    yield Answer(value="done")


def frame(text: str, ids: list[int], total: int, *, end: bool = False) -> str:
    """One event of SGLang's ``/generate``."""
    meta = {"finish_reason": {"type": "stop", "matched": None} if end else None, "completion_tokens": total}
    return json.dumps({"text": text, "output_ids": ids, "meta_info": meta | {"prompt_tokens": 3, "cached_tokens": 0}})


@pytest.mark.reported("elizaOS/eliza#30904", "elie222/rakazo#416")
class TestHalvesFromSglang:
    """A character whose bytes arrive in two events is one character, whether events repeat the text or not."""

    @pytest.mark.parametrize(
        ("texts", "whole"),
        [
            (["a" + HALVES[0], "a" + EMOJI, f"a{EMOJI}b"], f"a{EMOJI}b"),
            (["a\ufffd", f"a{EMOJI}", f"a{EMOJI}b"], f"a{EMOJI}b"),
            (["\ufffd", "\ufffd\ufffd", "\ufffd\ufffd\ufffd", EMOJI], EMOJI),
            (["a\ufffd", "a\ufffdb", "a\ufffdbc"], "a\ufffdbc"),
            (["a", "a" + HALVES[0]], "a\ufffd"),
            (["\ud83d\ud83d", "\ud83d" + EMOJI], "\ufffd" + EMOJI),
        ],
    )
    def test_in_cumulative_events(self, texts: list[str], whole: str) -> None:
        counts = range(1, len(texts) + 1)
        frames = [frame(text, list(range(n)), n, end=n == len(texts)) for n, text in zip(counts, texts, strict=True)]
        reader = GenerateReader()
        chunks = [reader.read(each) for each in frames]
        assert "".join(chunk.text for chunk in chunks if chunk) == whole
        assert [token for chunk in chunks if chunk for token in chunk.ids] == list(range(len(texts)))

    @pytest.mark.parametrize(
        ("texts", "whole"),
        [
            (["a" + HALVES[0], HALVES[1], "b"], f"a{EMOJI}b"),
            (["a" + HALVES[0], HALVES[1] + HALVES[0], HALVES[1]], f"a{EMOJI}{EMOJI}"),
            (["a" + HALVES[0], "b", "c"], "a\ufffdbc"),
            (["a", HALVES[1], "c"], "a\ufffdc"),
            (["a", HALVES[0]], "a\ufffd"),
        ],
    )
    def test_in_incremental_events(self, texts: list[str], whole: str) -> None:
        frames = [frame(text, [n], n + 1, end=n + 1 == len(texts)) for n, text in enumerate(texts)]
        reader = GenerateReader()
        assert "".join(chunk.text for each in frames if (chunk := reader.read(each))) == whole

    def test_what_cannot_be_read_is_still_an_error(self) -> None:
        for odd in ("[]", "{", '{"text": "a"}', "7", "[" * 100_000):
            with pytest.raises((EngineProtocolError, EngineRejected)):
                GenerateReader().read(odd)
