"""The LLM extractor with a real model under a schema: its answers are read, recorded, and used again."""

import asyncio
from pathlib import Path

from sprint_agents.testing import FakeEngine
from sprint_finetune.curation import AnswerRecord, CurationSettings, LLMExtractor, Spending, Trace, curate
from tests.finetune.curation.conftest import SameText
from tests.real.conftest import Place

TRACE = Trace(
    id="parity",
    problem="How many even numbers from 1 to 40 are divisible by 4 or by 10?",
    answer="12",
    trace="Multiples of 4: 40/4 = 10.\nMultiples of 10: 40/10 = 4.\nBoth: 40/20 = 2.\nSo 10 + 4 - 2 = \\boxed{12}.",
)


class Silent(FakeEngine):
    """The same engine by name and abilities, without a model: it fails if it is asked."""

    def __init__(self, like) -> None:
        super().__init__([], capabilities=like.capabilities)
        self._name = like.name

    @property
    def name(self) -> str:
        return self._name


def test_a_real_model_is_asked_once(fast_place: Place, tmp_path: Path) -> None:
    async def main() -> None:
        engine = fast_place.make()
        try:
            kept, cost = await curated(engine, tmp_path / "first")
            # Reading the record again asks nothing and comes to the same, whatever this weak model answered.
            (tmp_path / "again").mkdir()
            (tmp_path / "first" / "completions.jsonl").rename(tmp_path / "again" / "completions.jsonl")
            assert await curated(Silent(engine), tmp_path / "again") == (kept, cost)
        finally:
            await engine.aclose()
        assert cost > 0

    async def curated(engine, folder: Path) -> tuple[list[str], int]:
        with AnswerRecord(folder / "completions.jsonl") as record:
            spending = Spending(tokens=20_000)
            extractor = LLMExtractor(engine, max_tokens=120, record=record, spending=spending)
            await curate([TRACE], folder, extractor=extractor, verifier=SameText(), settings=CurationSettings())
        return [(folder / f"{name}.jsonl").read_text() for name in ("steps", "dags")], spending.spent.tokens

    asyncio.run(main())
