"""One typed program, unchanged, on four real engines, started as a user starts it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from environments.real.llama_cpp import LlamaCppServer

EXAMPLE = Path(__file__).parents[2] / "examples" / "any_engine.py"
TOKENS = "60"
"""The limit of each completion: this model's thoughts are not worth more."""


@pytest.mark.parametrize("kind", ["local", "llama.cpp", "pydantic-ai", "sglang"])
def test_any_engine(kind: str, request: pytest.FixtureRequest) -> None:
    environment = dict(os.environ)
    match kind:
        case "local":
            where = str(request.getfixturevalue("checkpoint"))
        case "sglang":
            where = request.getfixturevalue("sglang").url
        case _:
            server: LlamaCppServer = request.getfixturevalue("llama_cpp")
            where = f"{server.url}/v1" if kind == "llama.cpp" else f"openai-chat:{server.name}"
            environment |= {"OPENAI_BASE_URL": f"{server.url}/v1", "OPENAI_API_KEY": "none"}
    command = [sys.executable, str(EXAMPLE), kind, where, TOKENS]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    if kind == "pydantic-ai":
        # OpenAI's client drops the bounds of texts from a schema, so this model may think up to its limit, which fails
        # an execution, or the answer.
        if ended.returncode:
            assert ended.stderr.startswith(("InvalidResult: ", "NoAnswer: "))
        else:
            assert ended.stdout.startswith("openai:smollm2: euros=")
        return
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.count("euros=") == 3
