import pytest
from hypothesis import given
from hypothesis import strategies as st

from sprint_agents import Budget, Executor, Sprint
from sprint_agents.errors import EngineUnavailable, JournalError
from sprint_agents.policies import interleaved, limit_width
from sprint_agents.testing import FakeEngine, Fault, Reply, run_virtual

PLANS = (["a", "b"], ["c"], ["d", "e"])


def run(engine, path, task="question", **options):
    return run_virtual(Sprint(engine, **options).run(task, journal=path))


class Breaking:
    """A script whose planner loses its connection in ``stage``, until it is repaired."""

    def __init__(self, script, stage):
        self.script, self.stage = script, stage

    def __call__(self, prompt):
        reply = self.script(prompt)
        planning = isinstance(reply, str) and prompt.text.count("</Plan_") + 1 == self.stage
        return Reply(reply, fault=Fault.drop(after=2)) if planning else reply


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_run_goes_on_after_its_last_finished_stage(model, tmp_path, stage):
    path = tmp_path / "run.jsonl"
    script = model(*PLANS, answer="42", execute=lambda stage, number: f"{10 * stage + number}\n")
    whole = run(FakeEngine(script), tmp_path / "whole.jsonl", executor=Executor(int))
    breaking = Breaking(script, stage)
    engine = FakeEngine(breaking)
    with pytest.raises(EngineUnavailable):
        run(engine, path, executor=Executor(int))
    before = engine.account().started
    breaking.stage = None
    resumed = run(engine, path, executor=Executor(int))
    assert resumed.transcript == whole.transcript
    assert [stage.results for stage in resumed.stages] == [stage.results for stage in whole.stages]
    done = sum(1 + len(plan) for plan in PLANS[: stage - 1])
    assert engine.account().started - before == whole.usage.calls - done
    assert resumed.usage.total_tokens == whole.usage.total_tokens + 2  # of the broken request
    assert resumed.usage.calls == whole.usage.calls + 1


@given(cut=st.integers(1, 3000))
def test_a_record_cut_off_anywhere_is_run_again(model, tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("journal") / "run.jsonl"
    engine = FakeEngine(model(*PLANS, answer="42"))
    whole = run(engine, path)
    content = path.read_bytes()
    path.write_bytes(content[: max(0, len(content) - cut)])
    resumed = run(engine, path)
    assert resumed.transcript == whole.transcript
    assert path.read_bytes().count(b"\n") == content.count(b"\n")


def test_a_resumed_run_pays_for_no_subtask_that_was_never_started(model, tmp_path):
    options = {"policy": limit_width(interleaved, 2), "budget": Budget(subtasks=5)}
    engine, path = FakeEngine(model(["a"] * 6, ["b"] * 6)), tmp_path / "whole"
    whole = run(engine, path, **options)
    assert whole.usage.subtasks == 4
    lines = path.read_bytes().splitlines(keepends=True)
    for cut in range(1, len(lines) + 1):
        (tmp_path / "cut").write_bytes(b"".join(lines[:cut]))
        resumed = run(engine, tmp_path / "cut", **options)
        assert (resumed.transcript, resumed.usage.subtasks) == (whole.transcript, 4), cut


def test_a_finished_run_is_not_run_again(model, tmp_path):
    engine = FakeEngine(model(["a"], answer="42"))
    first = run(engine, tmp_path / "run.jsonl")
    before = engine.account().started
    again = run(engine, tmp_path / "run.jsonl")
    assert (again.id, again.answer, again.stages) == (first.id, first.answer, first.stages)
    assert engine.account().started == before


class Shifted(FakeEngine):
    """An engine with another vocabulary."""

    async def encode(self, text):
        return [token + 1 for token in await super().encode(text)]

    async def decode(self, ids):
        return await super().decode([token - 1 for token in ids])


def test_a_journal_of_another_tokenizer_is_refused(model, tmp_path):
    run(FakeEngine(model(["a"])), tmp_path / "run.jsonl")
    with pytest.raises(JournalError, match="another tokenizer"):
        run(Shifted(model(["a"])), tmp_path / "run.jsonl")


def test_a_journal_of_another_task_is_refused(model, tmp_path):
    path = tmp_path / "run.jsonl"
    run(FakeEngine(model()), path, "one question")
    with pytest.raises(JournalError, match="is the journal of policy 'interleaved' on 'one question'"):
        run(FakeEngine(model()), path, "another question")


def test_a_file_that_is_no_journal_is_refused_and_left_alone(model, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("my notes\n")
    with pytest.raises(JournalError, match="is not a journal, or is damaged"):
        run(FakeEngine(model()), path)
    assert path.read_text() == "my notes\n"


def test_a_journal_that_cannot_be_written_is_an_error_before_anything_runs(model, tmp_path):
    engine = FakeEngine(model())
    for path in (tmp_path / "missing" / "run.jsonl", tmp_path):
        with pytest.raises(JournalError, match="cannot be read and written"):
            run(engine, path)
    assert engine.account().started == 0
