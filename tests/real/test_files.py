"""A real GGUF file in the embedded engine."""

import asyncio
from pathlib import Path

import pytest

from sprint_agents.context import Context
from sprint_agents.engines import LocalEngine
from sprint_agents.testing.contract import complete, request_of

TEXT = "<|im_start|>user\nWhich way is up?<|im_end|>\n<|im_start|>assistant\n"


async def written(engine: LocalEngine) -> list[int]:
    async with engine:
        return (await complete(engine, request_of(Context().extend(await engine.encode(TEXT), TEXT)))).ids


def test_a_gguf_file_is_converted_once(
    gguf: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    engine = LocalEngine(gguf)
    assert engine.name == f"local:{gguf.name}"
    assert engine.capabilities.chat == LocalEngine(checkpoint).capabilities.chat
    assert asyncio.run(written(engine)) == asyncio.run(written(LocalEngine(checkpoint)))
    (made,) = (tmp_path / "sprint-agents" / "gguf").iterdir()
    before = {file: file.stat().st_mtime_ns for file in made.iterdir()}
    LocalEngine(str(gguf))
    assert {file: file.stat().st_mtime_ns for file in made.iterdir()} == before
