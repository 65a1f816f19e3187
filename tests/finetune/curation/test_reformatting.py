"""Reformatting: the text reads back correctly and has each line of the trace once."""

from hypothesis import given
from hypothesis import strategies as st

from sprint_agents.trajectory import Trajectory
from sprint_finetune.curation import Trace
from sprint_finetune.curation.dag import dag_of
from sprint_finetune.curation.lines import as_ranges, lines_of
from sprint_finetune.curation.packing import pack
from sprint_finetune.curation.records import Dag, Extraction, Packed, Step
from sprint_finetune.curation.reformatting import Style, basis_of, chain_text, trajectory_text
from sprint_finetune.curation.samples import lines_changed

WORDS = st.text(st.sampled_from("ab 1=+<>/_.\\{}-*:\té✓"), min_size=1, max_size=20)


@st.composite
def packed_traces(draw: st.DrawFn) -> tuple[Trace, Packed]:
    """A trace of unusual lines, some of them equal, cut into arbitrary steps."""
    count = draw(st.integers(1, 6))
    drawn = draw(st.lists(WORDS, min_size=count, max_size=25))
    lines = lines_of("\n".join(["x"] * count + drawn)).chain
    kinds = ["plan", "execution", "comments"]
    owners = [(step, "plan") for step in range(1, count + 1)]
    owners += [(draw(st.integers(1, count)), draw(st.sampled_from(kinds))) for _ in lines[count:]]
    steps = []
    for number in range(1, count + 1):
        parts = {
            kind: as_ranges(line for line, owner in enumerate(owners, 1) if owner == (number, kind)) for kind in kinds
        }
        prompt = draw(st.sampled_from([None, "Do it.", "Find a.\nThen b."])) if parts["execution"] else None
        steps.append(Step(number=number, prompt=prompt, **parts))
    parents = {
        step: draw(st.lists(st.integers(1, step - 1), unique=True)) if step > 1 else [] for step in range(1, count + 1)
    }
    conclusion = draw(st.sampled_from(["", "</think>\nSo it is \\boxed{7}.\nDone.", "</think>\nSeven."]))
    trace = Trace(id="t", problem="How many\nare there?", trace="\n".join(lines) + f"\n{conclusion}", answer="7")
    return trace, pack(Extraction(id="t", steps=tuple(steps)), dag_of("t", parents), shortest=draw(st.integers(1, 3)))


@given(packed_traces(), st.builds(Style, separators=st.booleans(), basis=st.booleans(), breaks=st.booleans()))
def test_a_trajectory_reads_back_without_diagnostics_and_with_every_line(
    made: tuple[Trace, Packed], style: Style
) -> None:
    trace, packed = made
    text = trajectory_text(trace, packed, "7", style=style)
    trajectory = Trajectory.from_text(text)
    assert trajectory.diagnostics == ()
    assert trajectory.question == trace.problem
    assert len(trajectory.stages) == len(packed.stages)
    executed = [[number for number in stage if packed.steps[number - 1].execution] for stage in packed.stages]
    assert [len(stage.subtasks) for stage in trajectory.stages] == [len(stage) for stage in executed]
    assert trajectory.answer == "7"
    assert not lines_changed(trace, packed, text)


@given(packed_traces())
def test_the_sequential_twin_has_the_same_lines_in_their_order(made: tuple[Trace, Packed]) -> None:
    trace, _ = made
    twin = Trajectory.from_text(chain_text(trace, "7"))
    assert twin.diagnostics == ()
    assert [line.strip() for line in (twin.chain or "").splitlines()] == [
        line.strip() for unit in lines_of(trace.trace).chain for line in unit.splitlines()
    ]
    assert twin.answer == "7"


def cases() -> tuple[Trace, Packed]:
    lines = ["Two cases.", "Case 1", "a", "b", "c", "Good.", "Case 2", "d", "e", "f", "Sum", "Check", "g", "h", "i"]
    steps = (
        Step(number=1, plan=((1, 1),)),
        Step(number=2, plan=((2, 2),), execution=((3, 5),), comments=((6, 6),), prompt="Do the first case."),
        Step(number=3, plan=((7, 7),), execution=((8, 10),)),
        Step(number=4, plan=((11, 11),)),
        Step(number=5, plan=((12, 12),), execution=((13, 15),)),
    )
    dag = Dag(id="t", parents=((), (1,), (1,), (2, 3), (3, 4)))
    trace = Trace(id="t", problem="How many?", trace="\n".join(lines), answer="7")
    return trace, pack(Extraction(id="t", steps=steps), dag)


def test_the_layout() -> None:
    trace, packed = cases()
    assert trajectory_text(trace, packed, "7").splitlines() == [
        "How many?",
        "<Plan_1>",
        "Two cases.",
        "-----",
        "Case 1",
        "<prompt_1.1>Do the first case.</prompt_1.1>",
        "-----",
        "<prompt_1.2>Case 2</prompt_1.2>",
        "</Plan_1>",
        "<Execution_1>",
        "<execution_1.1>",
        "a",
        "b",
        "c",
        "Good.",
        "</execution_1.1>",
        "<execution_1.2>",
        "d",
        "e",
        "f",
        "</execution_1.2>",
        "</Execution_1>",
        "<Plan_2>",
        "Based on execution_1.1, execution_1.2:",
        "Sum",
        "-----",
        "<prompt_2.1>Check</prompt_2.1>",
        "</Plan_2>",
        "<Execution_2>",
        "<execution_2.1>",
        "g",
        "h",
        "i",
        "</execution_2.1>",
        "</Execution_2>",
        "<Final_answer>",
        "\\boxed{7}",
        "</Final_answer>",
    ]


def test_the_layout_without_line_breaks_after_the_tags_of_a_plan() -> None:
    trace, packed = cases()
    text = trajectory_text(trace, packed, "7", style=Style(separators=False, basis=False, breaks=False))
    assert [line for line in text.splitlines() if "lan_" in line or "prompt_" in line] == [
        "<Plan_1>Two cases.",
        "<prompt_1.1>Do the first case.</prompt_1.1><prompt_1.2>Case 2</prompt_1.2></Plan_1>",
        "<Plan_2>Sum",
        "<prompt_2.1>Check</prompt_2.1></Plan_2>",
    ]


def test_a_plan_that_builds_on_many_names_the_first_and_the_last() -> None:
    steps = tuple(Step(number=number, execution=((3 * number - 2, 3 * number),)) for number in range(1, 7))
    packed = pack(Extraction(id="t", steps=steps), Dag(id="t", parents=((), (), (), (), (), (1, 2, 3, 5))))
    assert basis_of(packed, 1) == ""
    assert basis_of(packed, 2) == "Based on execution_1.1 to execution_1.3, execution_1.5:"


def test_a_lost_and_a_doubled_line_are_found() -> None:
    trace, packed = cases()
    text = trajectory_text(trace, packed, "7")
    assert lines_changed(trace, packed, text.replace("\ne\n", "\n")) == {"e": -1}
    assert lines_changed(trace, packed, text.replace("\ne\n", "\nf\n")) == {"e": -1, "f": 1}
    assert lines_changed(trace, packed, text.replace("\nSum\n", "\nSum\nSum\n")) == {"Sum": 1}
