"""Write a test for each function of a module, all in parallel; a wrong one goes back to its writer with the reason.

The writers give numbers and the program writes the code, so no code of a model is executed. Without ``--url`` a
recording of a small model is replayed.

    python examples/write_tests.py
    python examples/write_tests.py your_module.py --url http://127.0.0.1:11434/v1 --model qwen3:8b
"""

import argparse
import asyncio
import inspect
import runpy
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, create_model

from sprint_agents import Answer, Engine, Executor, Limits, Plan, Planning, Run, Sprint, SprintError, Stage, Step
from sprint_agents.engines import OpenAIEngine
from sprint_agents.testing import RecordedEngine

MODULE = Path(__file__).with_name("museum") / "prices.py"
RECORDING = Path(__file__).with_name("recordings") / "write_tests.json"
ROUNDS = 4


Small = Annotated[int, Field(ge=0, le=99)]


class Case(BaseModel):
    arguments: list[Small]
    result: Small


async def main(engine: Engine, *, module: Path = MODULE, limits: Limits | None = None) -> Run[str, Case]:
    """Write tests for the functions of ``module``, print them, and return the run."""
    defined = {name: one for name, one in runpy.run_path(str(module)).items() if inspect.isfunction(one)}
    functions = {name: one for name, one in defined.items() if one.__module__ == "<run_path>"}
    counts = [len(inspect.signature(one).parameters) for one in functions.values()]
    arguments = (list[Small], Field(min_length=min(counts), max_length=max(counts)))

    async def until_right(planning: Planning) -> AsyncGenerator[Step, Stage[Case]]:
        """Ask for a case of each function until it is right; the answer is the text of the tests."""
        tests = [f"from {module.stem} import {', '.join(functions)}"]
        prompts = {name: f"Give a test case for {name}." for name in functions}
        for _ in range(ROUNDS):
            stage = yield Plan.of(*prompts.values())
            for name, case in zip(list(prompts), stage.results, strict=True):
                call = f"{name}({', '.join(map(str, case.arguments))})"
                try:
                    value = functions[name](*case.arguments)
                except Exception as error:
                    value = type(error).__name__
                if value == case.result:
                    tests.append(f"def test_{name}():\n    assert {call} == {value}")
                    del prompts[name]
                else:
                    prompts[name] = f"{call} is {value}, not {case.result}. Give a test case for {name}."
            if not prompts:
                break
        yield Answer(value="\n\n\n".join(tests))

    executor = Executor(create_model("Case", __base__=Case, arguments=arguments))
    task = f"Test the module {module.stem}:\n\n{module.read_text(encoding='utf-8')}"
    async with aclosing(engine):
        sprint = Sprint(
            engine, policy=until_right, executor=executor, dialect="json", limits=limits, failure="fail_fast"
        )
        run = await sprint.run(task)
    print(run.answer)
    return run


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module", type=Path, nargs="?", default=MODULE)
    parser.add_argument("--url", help="a server with OpenAI's API")
    parser.add_argument("--model", default="qwen3:8b")
    given = parser.parse_args()
    engine = OpenAIEngine(given.url, model=given.model) if given.url else RecordedEngine(RECORDING)
    if isinstance(engine, RecordedEngine):
        print(f"{engine.recording.notice} For a model of yours, give --url and --model.\n")
    try:
        asyncio.run(main(engine, module=given.module))
    except SprintError as error:
        sys.exit(f"{type(error).__name__}: {error}")
