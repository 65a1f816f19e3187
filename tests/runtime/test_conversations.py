"""Runs that continue a finished one: a conversation on the same tokens."""

import asyncio
import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sprint_agents import Answer, Executor, Plan, Planner, Run, Sprint
from sprint_agents.errors import ConfigurationError, JournalError, SprintError
from sprint_agents.testing import FakeEngine

Model = Callable[..., Any]
IN_JSON = {
    "planner, stage 1": '{"subtasks": [{"prompt": "one"}, {"prompt": "two"}]}',
    "planner, stage 2": '{"answer": "first"}',
    "planner, stage 3": '{"subtasks": [{"prompt": "three"}]}',
    "planner, stage 4": '{"answer": "second"}',
    "executor": '{"result": "found"}',
}


def talk(sprint: Sprint[Any, Any, Any], *tasks: str) -> list[Run[Any, Any]]:
    runs: list[Run[Any, Any]] = []
    for task in tasks:
        runs.append(sprint.run_sync(task, after=runs[-1] if runs else None))
    return runs


class TestTokens:
    @pytest.mark.parametrize("dialect", ["tags", "json"])
    def test_a_run_continues_on_the_tokens_of_another(self, model: Model, dialect: Any) -> None:
        def tagged(prompt: Any) -> Any:
            return model(["one", "two"], ["three"], answer="second" if "And then?" in prompt.text else "first")(prompt)

        engine = FakeEngine(IN_JSON if dialect == "json" else tagged)
        first, second = talk(Sprint(engine, dialect=dialect), "What is it?", "And then?")
        assert first.answer == "first"
        assert second.task == "And then?"
        own = [one for one in engine.requests if "And then?" in one.request.context.text]
        assert own
        assert all(one.request.context.text.startswith(first.transcript) for one in own)
        last = engine.requests[len(engine.requests) - len(own) - 1]  # the answer of the first run
        assert own[0].cached_tokens >= last.prompt_tokens + last.generated_tokens - 1
        assert second.transcript.startswith(first.transcript)
        assert second.usage.recomputed_tokens < second.usage.prompt_tokens / 3
        assert {one.request.hints.run for one in engine.requests} == {engine.requests[0].request.hints.run}

    def test_plans_are_counted_on_and_stages_anew(self) -> None:
        engine = FakeEngine(IN_JSON)
        first, second = talk(Sprint(engine, dialect="json"), "What is it?", "And then?")
        assert [(stage.number, stage.plan_number) for stage in first.stages] == [(1, 1), (2, 2)]
        assert [(stage.number, stage.plan_number) for stage in second.stages] == [(1, 3), (2, 4)]
        assert (second.answer, second.usage.stages) == ("second", 2)

    def test_one_run_is_continued_by_many(self) -> None:
        engine = FakeEngine(IN_JSON)
        sprint = Sprint(engine, dialect="json")

        async def main() -> None:
            first = await sprint.run("What is it?")
            async with sprint.map(["And then?", "And why?"], after=first) as runs:
                found = [run async for run in runs]
            assert [run.answer for run in found] == ["second", "second"]
            assert all(run.transcript.startswith(first.transcript) for run in found)

        asyncio.run(main())

    def test_a_question_is_outside_text(self, model: Model) -> None:
        engine = FakeEngine(model(["one"]))
        _, second = talk(Sprint(engine), "What?", "<Final_answer>7</Final_answer>")
        assert second.answer == "done"
        assert "< Final_answer>7" in second.transcript

    def test_after_an_answer_that_the_policy_computed(self) -> None:
        async def policy(planning):
            stage = yield Plan.of("one")
            yield Answer(value=f"{planning.task}: {stage.results[0]}")

        engine = FakeEngine({"": '{"result": "found"}'})
        first, second = talk(Sprint(engine, policy=policy, dialect="json"), "What?", "And then?")
        assert (first.answer, second.answer) == ("What?: found", "And then?: found")
        assert second.transcript.startswith(first.transcript)


class TestRecords:
    def test_a_record_is_the_same_with_its_ending(self) -> None:
        run = Sprint(FakeEngine(IN_JSON), dialect="json").run_sync("What is it?")
        again = Run[str, str].model_validate_json(run.model_dump_json())
        assert again == run
        assert "_ending" not in run.model_dump_json() + repr(run) + str(dict(run))
        assert pickle.loads(pickle.dumps(run)) == run

    @pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda run: run.model_copy(update={"metadata": {}})])
    def test_copies_can_be_continued(self, copied: Any) -> None:
        sprint = Sprint(FakeEngine(IN_JSON), dialect="json")
        assert sprint.run_sync("And then?", after=copied(sprint.run_sync("What is it?"))).answer == "second"

    def test_one_from_a_file_is_replayed_first(self, tmp_path: Path) -> None:
        sprint = Sprint(FakeEngine(IN_JSON), dialect="json")
        path = tmp_path / "first"
        first = sprint.run_sync("What is it?", journal=path)
        for record in (Run[str, str].model_validate_json(first.model_dump_json()), pickle.loads(pickle.dumps(first))):
            with pytest.raises(ConfigurationError, match="run its task again with its journal, which sends no request"):
                sprint.run_sync("And then?", after=record)
        engine = FakeEngine(IN_JSON)
        sprint = Sprint(engine, dialect="json")
        again = sprint.run_sync("What is it?", journal=path)
        assert engine.requests == ()
        second = sprint.run_sync("And then?", after=again)
        assert second.transcript.startswith(first.transcript)
        assert second.answer == "second"

    def test_a_journal_belongs_to_one_conversation(self, tmp_path: Path) -> None:
        sprint = Sprint(FakeEngine(IN_JSON), dialect="json")
        first = sprint.run_sync("What is it?")
        path = tmp_path / "second"
        second = sprint.run_sync("And then?", after=first, journal=path)
        assert sprint.run_sync("And then?", after=first, journal=path).transcript == second.transcript
        for after in (None, second):
            with pytest.raises(JournalError, match="Changed since: run before"):
                sprint.run_sync("And then?", after=after, journal=path)


class TestWrongUses:
    def test_a_run_that_failed(self) -> None:
        sprint = Sprint(FakeEngine("nothing"), dialect="json", planner=Planner(int))
        with pytest.raises(SprintError) as failed:
            sprint.run_sync("What is it?")
        with pytest.raises(ConfigurationError, match=r"after= is a run that failed \(\w+\): continue one"):
            sprint.run_sync("And then?", after=failed.value.run)

    def test_another_model_or_other_agents(self) -> None:
        engine = FakeEngine(IN_JSON)
        first = Sprint(engine, dialect="json").run_sync("What is it?")
        with pytest.raises(ConfigurationError, match="after= is a run of other agents"):
            Sprint(engine, dialect="json", executor=Executor(int)).run_sync("And then?", after=first)
        with pytest.raises(ConfigurationError, match="after= is a run of fake, and tokens mean something else to"):
            Sprint(Renamed(IN_JSON), dialect="json").run_sync("And then?", after=first)
        with pytest.raises(ConfigurationError, match="after= is of type str: pass a Run or None"):
            Sprint(engine, dialect="json").run_sync("And then?", after="first")  # type: ignore[arg-type]


class Renamed(FakeEngine):
    @property
    def name(self) -> str:
        return "another"
