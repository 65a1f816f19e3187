"""Record again what SmolLM2-135M-Instruct writes in the examples that need a model (minutes; after ``make real``).

python examples/recordings/record.py
python examples/recordings/record.py research any_engine
"""

import asyncio
import importlib
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
sys.path[:0] = [str(FOLDER.parent), str(FOLDER.parents[1])]  # the examples, and the repository's environments

from environments.real.llama_cpp import LlamaCppServer, Options  # noqa: E402
from environments.real.smollm2 import gguf_file  # noqa: E402
from sprint_agents import Limits, SprintError  # noqa: E402
from sprint_agents.engine import Engine  # noqa: E402
from sprint_agents.engines import OpenAIEngine  # noqa: E402
from sprint_agents.testing import RecordingEngine  # noqa: E402

ABOUT = "SmolLM2-135M-Instruct (Q4_1) on llama.cpp"
SHORT = Limits(execution_tokens=60, answer_tokens=100)
"""A small model that loses the thread writes until its limit."""


async def any_engine(engine: Engine) -> None:
    example = importlib.import_module("any_engine")
    example.ENGINES["recording"] = lambda _: engine
    await example.main("recording", "", str(SHORT.execution_tokens))


def with_engine(name: str) -> Callable[[Engine], Awaitable[Any]]:
    return lambda engine: importlib.import_module(name).main(engine, limits=SHORT)


EXAMPLES: Mapping[str, Callable[[Engine], Awaitable[Any]]] = {
    "any_engine": any_engine,
    "code_review": with_engine("code_review"),
    "research": with_engine("research"),
    "write_tests": with_engine("write_tests"),
}
TRIES: Sequence[Mapping[str, float]] = (
    {"temperature": 0},
    *({"temperature": 0.6, "seed": seed} for seed in range(12)),
)
"""How tokens are drawn in the first try and in the next ones, until a run ends with an answer that is worth showing."""


async def main(names: list[str]) -> None:
    """Run each example on a server and save its recording."""
    with LlamaCppServer(gguf_file(), Options(slots=1)) as server:
        for name in names:
            for sampling in TRIES:
                served = OpenAIEngine(f"{server.url}/v1", model=server.name, server="llama.cpp", extra=sampling)
                engine = RecordingEngine(served)
                try:
                    run = await EXAMPLES[name](engine)
                except SprintError as error:
                    print(f"{name}, {sampling}: {type(error).__name__}")
                    continue
                if name != "write_tests" or "def test_" in run.answer:
                    engine.recording(about=ABOUT).save(FOLDER / f"{name}.json")
                    break


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:] or [*EXAMPLES]))
