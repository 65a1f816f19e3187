"""The same application on the scripted engine and on a random model in process; real servers: ``tests/sglang``."""

import asyncio
import json
import re
from pathlib import Path

import pytest

from sprint_agents.testing import FakeEngine, run_virtual

from .application import Finding, Verdict, application, check

BACKSPACE = re.compile(r"\\[bf][A-Za-z]")


def test_on_the_fake_engine() -> None:
    replies = {
        "executor 1.1: carry out": '{"call": [{"tool": "look", "arguments": {"side": "left", "steps": 2}}]}',
        "executor 1.1: the tools": '{"result": {"side": "left", "doors": 4}}',
        "executor 1.2: carry out": '{"result": {"side": "right", "doors": 0}}',
        "planner, stage 2": '{"answer": {"open": true, "doors": 4}}',
    }
    run = run_virtual(application(FakeEngine(replies)).run("How many doors?"))
    check(run)
    assert run.answer == Verdict(open=True, doors=4)
    assert run.stages[0].results == [Finding(side="left", doors=4), Finding(side="right", doors=0)]
    assert run.usage.tool_calls == 1


@pytest.mark.local
@pytest.mark.parametrize("template", ["chatml", "llama-3", "mistral", "gemma", None])
def test_on_a_random_model_in_process(template: str | None, tmp_path: Path) -> None:
    pytest.importorskip("llguidance")
    from sprint_agents.engines import LocalEngine

    from .instruct import save_instruct_model

    async def main() -> None:
        async with LocalEngine(save_instruct_model(tmp_path, template), threads=1) as engine:
            run = await application(engine).run("How many doors?")
            check(run)
            assert engine.statistics().running == 0
            for stage in run.stages:
                # A backspace before a letter, which a random model may write, is read as the backslash of a command.
                if not BACKSPACE.search(stage.plan):
                    assert all(diagnostic.kind != "malformed_json" for diagnostic in stage.diagnostics)
                cut_off = any(diagnostic.kind == "unclosed_plan" for diagnostic in stage.diagnostics)
                if stage.plan and stage.number > 1 and stage.executions and not cut_off:
                    assert json.loads(stage.plan)["subtasks"]

    asyncio.run(main())
