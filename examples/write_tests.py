"""Write tests for a module: one writer per public function, all in parallel; failing tests go back to their writers.

The policy runs each test with pytest and keeps those that pass. This executes code that a model wrote: use a sandbox.

    python examples/write_tests.py examples/nested_arithmetic.py --model qwen3:8b
"""

import argparse
import ast
import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from tempfile import TemporaryDirectory

from sprint_agents import Answer, Engine, Executor, Plan, Planner, Planning, Policy, Run, Sprint, Stage, Step
from sprint_agents.engines import OpenAIEngine


async def complaint(test: str, folder: Path) -> str:
    """Run a test that can import from ``folder``; return the end of pytest's output, or nothing if it passes."""
    with TemporaryDirectory() as place:
        path = Path(place, "test_written.py")
        await asyncio.to_thread(path.write_text, test, encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(path)]
        where = os.environ | {"PYTHONPATH": str(folder)}
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env=where)
        try:
            printed, _ = await asyncio.wait_for(process.communicate(), timeout=60)
        except TimeoutError:
            process.kill()
            printed, _ = await process.communicate()
        return printed.decode()[-1000:] if process.returncode else ""


def verified(module: Path, names: list[str], *, rounds: int = 3) -> Policy:
    """Make a policy that asks for tests until they pass; its answer has the passing test of each function."""

    async def policy(planning: Planning) -> AsyncGenerator[Step, Stage[str]]:
        passed: dict[str, str] = {}
        prompts = {name: f"Write a pytest file that tests {name} of module {module.stem}." for name in names}
        for _ in range(rounds):
            stage = yield Plan.of(*prompts.values())
            written = {name: one.value or "" for name, one in zip(prompts, stage.executions, strict=True)}
            said = await asyncio.gather(*(complaint(test, module.parent) for test in written.values()))
            verdicts = dict(zip(written, said, strict=True))
            passed |= {name: test for name, test in written.items() if not verdicts[name]}
            prompts = {name: f"{prompts[name]} It failed:\n{verdict}" for name, verdict in verdicts.items() if verdict}
            if not prompts:
                break
        yield Answer(value=passed)

    return policy


async def main(engine: Engine, *, module: Path) -> Run[dict[str, str], str]:
    """Write tests for ``module``, print them, and return the run."""
    source = await asyncio.to_thread(module.read_text, encoding="utf-8")
    functions = [node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    public = [name for name in functions if not name.startswith("_")]
    executor = Executor(str, instructions="The result is the whole Python file, without code fences.")
    async with aclosing(engine):
        planner = Planner(dict[str, str])
        sprint = Sprint(engine, policy=verified(module, public), planner=planner, executor=executor, dialect="json")
        run = await sprint.run(f"Write tests for the module {module.stem}:\n\n{source}")
    print(*(f"# {name}\n{test}" for name, test in run.answer.items()), sep="\n\n")
    print(f"# {len(run.answer)} of {len(public)} functions have a passing test")
    return run


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("module", type=Path, nargs="?", default=Path(__file__).with_name("nested_arithmetic.py"))
    parser.add_argument("--url", default="http://127.0.0.1:11434/v1")
    parser.add_argument("--model", default="qwen3:8b")
    given = parser.parse_args()
    asyncio.run(main(OpenAIEngine(given.url, model=given.model), module=given.module))
