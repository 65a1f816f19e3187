import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sprint_agents.trajectory import Trajectory, count_words

from .dialects.texts import tagged_texts

LOGS = Path(__file__).parent / "trajectories"

SMALL = """Question?
<Plan_1>
one two <prompt_1.1>three</prompt_1.1> four
<prompt_1.2>five six</prompt_1.2>
seven eight nine ten
</Plan_1>
<Execution_1>
<execution_1.1>
a b c d e f
</execution_1.1>
<execution_1.2>
g h
</execution_1.2>
</Execution_1>
<Plan_2>
eleven twelve
</Plan_2>
<Final_answer>
x y z
</Final_answer>"""


def log(name: str) -> Trajectory:
    return Trajectory.from_text((LOGS / name).read_bytes().decode())


def kinds(trajectory: Trajectory) -> list[str]:
    return [diagnostic.kind for diagnostic in trajectory.diagnostics]


def test_parts_of_a_trajectory() -> None:
    trajectory = Trajectory.from_text(SMALL)
    assert (trajectory.question, trajectory.chain, trajectory.answer) == ("Question?", None, "x y z")
    assert [stage.number for stage in trajectory.stages] == [1, 2]
    assert [
        (subtask.number, subtask.index, subtask.prompt, subtask.execution) for subtask in trajectory.stages[0].subtasks
    ] == [("1.1", 1, "three", "a b c d e f"), ("1.2", 2, "five six", "g h")]
    assert trajectory.stages[1].plan == "eleven twelve"
    assert trajectory.diagnostics == ()


def test_token_counts() -> None:
    first, second = Trajectory.from_text(SMALL).stages
    assert (first.plan_tokens, second.plan_tokens) == (10, 2)
    assert [(subtask.plan_tokens, subtask.execution_tokens) for subtask in first.subtasks] == [(3, 6), (6, 2)]


def test_metrics() -> None:
    metrics = Trajectory.from_text(SMALL).metrics
    assert metrics.token_unit == "words"
    # max(3 + 6, 6 + 2), then the whole second plan, then the answer.
    assert metrics.sequential_tokens == 9 + 2 + 3
    assert (metrics.stages, metrics.width, metrics.parallelisation_ratio) == (2, 2, 1.5)


def test_strict_metrics_count_what_models_write() -> None:
    # With a unit of 1 a tag, the first plan has 10 words in 6 tags, and an execution is closed by one more.
    metrics = Trajectory.from_text(SMALL, count_tokens=lambda text: 1 if text[0] == "<" else len(text.split())).metrics
    assert metrics.token_unit == "tokens"
    assert metrics.sequential_tokens == 14
    assert metrics.sequential_tokens_strict == max(10 + 6, 3 + 3 + 6 + 1, 6 + 5 + 2 + 1) + (2 + 2) + (3 + 2)
    assert metrics.total_tokens == (10 + 6) + (6 + 1) + (2 + 1) + (2 + 2) + (3 + 2)


def test_a_long_execution_is_the_critical_path_strictly_too() -> None:
    text = "<Plan_1><prompt_1.1>a</prompt_1.1> b</Plan_1><execution_1.1>" + "c " * 100 + "</execution_1.1>"
    count = {"<Plan_1>": 1, "<prompt_1.1>": 1, "</prompt_1.1>": 1}
    metrics = Trajectory.from_text(text, count_tokens=lambda piece: count.get(piece, len(piece.split()))).metrics
    assert metrics.sequential_tokens == 1 + 100
    assert metrics.sequential_tokens_strict == 3 + 1 + 100 + 1


def test_the_paper_format() -> None:
    trajectory = log("paper_format.txt")
    assert trajectory.answer == "35"
    assert trajectory.answer_text == r"Both methods agree: the sum of the cubes is \boxed{35}."
    assert trajectory.question.startswith("Let $a$")
    assert [[subtask.number for subtask in stage.subtasks] for stage in trajectory.stages] == [["1.1", "1.2"], []]
    assert trajectory.stages[0].subtasks[1].execution == "The roots are 2 and 3. Their cubes are 8 and 27, together 35."
    assert trajectory.diagnostics == ()
    metrics = trajectory.metrics
    assert metrics.sequential_tokens < metrics.sequential_tokens_strict < metrics.total_tokens
    assert trajectory.to_text() + "\n" == (LOGS / "paper_format.txt").read_text().replace("\n\n<Plan_1>", "\n<Plan_1>")


def test_a_messy_chat_log() -> None:
    trajectory = log("chat_log.txt")
    assert trajectory.answer == "77"
    assert trajectory.chain == "I should write <Plan_1> first, then delegate with <prompt_1.1>."
    first, second = trajectory.stages
    assert [subtask.prompt for subtask in first.subtasks] == [
        "List the primes below 20 and count them.",
        "Add up the primes below 20.",
    ]
    assert [subtask.execution for subtask in first.subtasks] == [
        "2, 3, 5, 7, 11, 13, 17, 19: these are 8.",
        "2 + 3 + 5 + 7 + 11 + 13 + 17 + 19 = 77",
    ]
    assert [(subtask.number, subtask.execution is None) for subtask in second.subtasks] == [
        ("2.1", False),
        ("2.3", True),
    ]
    assert set(kinds(trajectory)) == {
        "misspelt_tag",
        "unclosed_prompt",
        "unclosed_execution",
        "skipped_number",
        "unclosed_plan",
        "missing_execution",
        "unclosed_answer",
    }


def test_a_reasoning_model_with_windows_lines() -> None:
    trajectory = log("reasoning_log.txt")
    assert (trajectory.answer, trajectory.chain) == ("149", None)
    assert trajectory.stages[0].subtasks[0].execution == "144"
    assert trajectory.diagnostics == ()


def test_a_sequential_chain_is_all_sequential() -> None:
    trajectory = log("chain_log.txt")
    assert (trajectory.question, trajectory.answer) == ("Use 7, 5, 3 to make 26.", "7*3+5")
    assert trajectory.chain is not None
    assert trajectory.answer_text is not None
    assert trajectory.diagnostics == ()
    metrics = trajectory.metrics
    assert metrics.sequential_tokens == count_words(trajectory.chain) + count_words(trajectory.answer_text)
    assert metrics.sequential_tokens_strict == metrics.total_tokens > metrics.sequential_tokens
    assert (metrics.stages, metrics.width, metrics.parallelisation_ratio) == (0, 0, 1.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["no_plan", "no_answer"]),
        ("just text", ["no_plan", "no_answer"]),
        ("<Plan_1>a</Plan_1>", ["no_answer"]),
        ("<Plan_1>a</Plan_1><Plan_3>b</Plan_3><Final_answer>4</Final_answer>", ["skipped_number"]),
        ("<Plan_1>a</Plan_1><Plan_1>b</Plan_1><Final_answer>4</Final_answer>", ["duplicate_number", "wrong_number"]),
        ("<Plan_1>a</Plan_1><execution_1.1>b</execution_1.1><Final_answer>4</Final_answer>", ["stray_execution"]),
        ("<execution_1.1>b</execution_1.1><Plan_1>a</Plan_1><Final_answer>4</Final_answer>", ["stray_execution"]),
        ("<Plan_1><prompt_1.1>a</prompt_1.1></Plan_1><Final_answer>4</Final_answer>", ["missing_execution"]),
        ("<Plan_1>a</Plan_1> so <Final_answer>4</Final_answer>", ["text_outside"]),
        ("<Plan_1>a</Plan_1><Final_answer>4</Final_answer><Plan_1>", ["text_after_answer"]),
        ("<Plan_1>a</Plan_1><Final_answer></Final_answer>", ["empty_answer"]),
        ("<Plan_1>a<Final_answer>4</Final_answer>", ["unclosed_plan"]),
        ("a</Plan_1><Final_answer>4</Final_answer>", ["unopened_tag"]),
        ("<Plan_1>a</Plan_1>4</Final_answer>", ["unopened_tag"]),
        ("<Plan_1>a</Plan_1></Plan_1><Final_answer>4</Final_answer>", ["unopened_tag"]),
        ("<Plan_1>a</Plan_1><prompt_1.1><Final_answer>4</Final_answer>", ["unexpected_tag"]),
    ],
)
def test_diagnostics(text: str, expected: list[str]) -> None:
    assert kinds(Trajectory.from_text(text)) == expected


def test_executions_of_all_shapes_find_their_prompts() -> None:
    text = (
        "<Plan_1><prompt_1.1>a</prompt_1.1><prompt_1.2>b</prompt_1.2></Plan_1>"
        "<execution_2.2>B</execution_2.2><execution_1.1>A says <Plan_2> and </Plan_2></execution_1.1>"
        "<execution_1.1>again</execution_1.1><Final_answer>4</Final_answer>"
    )
    trajectory = Trajectory.from_text(text)
    (stage,) = trajectory.stages
    assert [subtask.execution for subtask in stage.subtasks] == ["A says <Plan_2> and </Plan_2>", "B"]
    assert kinds(trajectory) == ["wrong_number", "duplicate_number"]


def test_an_execution_that_is_not_closed_ends_where_the_next_plan_begins() -> None:
    text = (
        "<Plan_1><prompt_1.1>a</prompt_1.1></Plan_1><execution_1.1>A <Plan_2>b</Plan_2><Final_answer>4</Final_answer>"
    )
    trajectory = Trajectory.from_text(text)
    assert [stage.plan for stage in trajectory.stages][1] == "b"
    assert trajectory.stages[0].subtasks[0].execution == "A"
    assert kinds(trajectory) == ["unclosed_execution"]


def test_a_plan_may_name_an_execution_by_its_tag() -> None:
    text = "<Plan_1>a</Plan_1><Plan_2>from <execution_1.1>: <prompt_2.1>b</prompt_2.1></Plan_2>"
    trajectory = Trajectory.from_text(text + "<execution_2.1>B</execution_2.1><Final_answer>4</Final_answer>")
    assert trajectory.stages[1].subtasks[0].execution == "B"
    assert kinds(trajectory) == ["unexpected_tag"]


def test_positions_count_in_the_whole_text() -> None:
    text = "Question?\n<Plan_1>\n  a\n<prompt_1.2>b</prompt_1.2>\n<prompt_1.2>c</prompt_1.2> <|im_end|>"
    trajectory = Trajectory.from_text(text)
    positions = {diagnostic.kind: diagnostic.position for diagnostic in trajectory.diagnostics}
    assert positions == {
        "skipped_number": text.index("<prompt_1.2>"),
        "missing_execution": text.index("\n<prompt_1.2>c"),
        "duplicate_number": text.rindex("<prompt_1.2>"),
        "unclosed_plan": len(text),
        "no_answer": len(text),
    }
    assert trajectory.stages[0].plan.endswith("c</prompt_1.2>")


def test_a_log_of_several_turns_without_a_template_at_its_start() -> None:
    text = "Q <Plan_1>a</Plan_1><|im_end|>\n<|im_start|>assistant\n<Final_answer>4</Final_answer>"
    trajectory = Trajectory.from_text(text)
    assert (len(trajectory.stages), trajectory.answer, trajectory.diagnostics) == (1, "4", ())


@given(st.one_of(tagged_texts, st.text()))
def test_any_text_is_read_and_reads_back_as_it_was_understood(text: str) -> None:
    trajectory = Trajectory.from_text(text)
    assert all(0 <= diagnostic.position <= len(text) for diagnostic in trajectory.diagnostics)
    assert Trajectory.model_validate_json(trajectory.model_dump_json()) == trajectory
    again = Trajectory.from_text(trajectory.to_text())
    assert (again.question, again.chain, again.stages) == (trajectory.question, trajectory.chain, trajectory.stages)
    assert (again.answer, again.answer_text) == (trajectory.answer, trajectory.answer_text)


words = st.text(alphabet="ab 1+\n\\{}.é", min_size=1, max_size=20).map(str.strip).filter(bool)


@st.composite
def well_formed(draw: st.DrawFn) -> tuple[str, list[list[tuple[str, str]]], str]:
    """Draw a trajectory in the layout of the runtime, its stages' prompts and executions, and its answer."""
    stages = draw(st.lists(st.lists(st.tuples(words, words), max_size=3), min_size=1, max_size=3))
    answer = draw(words)
    lines = [draw(words)]
    for number, subtasks in enumerate(stages, 1):
        lines += [f"<Plan_{number}>", draw(words)]
        for index, (prompt, _) in enumerate(subtasks, 1):
            lines.append(f"<prompt_{number}.{index}>{prompt}</prompt_{number}.{index}>")
        lines.append(f"</Plan_{number}>")
        if subtasks:
            lines.append(f"<Execution_{number}>")
            for index, (_, execution) in enumerate(subtasks, 1):
                lines += [f"<execution_{number}.{index}>", execution, f"</execution_{number}.{index}>"]
            lines.append(f"</Execution_{number}>")
    return "\n".join([*lines, "<Final_answer>", answer, "</Final_answer>"]), stages, answer


@given(well_formed())
def test_round_trip(drawn: tuple[str, list[list[tuple[str, str]]], str]) -> None:
    text, stages, answer = drawn
    trajectory = Trajectory.from_text(text)
    assert trajectory.to_text() == text
    assert [
        [(subtask.prompt, subtask.execution) for subtask in stage.subtasks] for stage in trajectory.stages
    ] == stages
    assert (trajectory.answer_text, trajectory.diagnostics) == (answer, ())
    metrics = trajectory.metrics
    assert metrics.sequential_tokens <= metrics.sequential_tokens_strict <= metrics.total_tokens
    assert metrics.width == max(map(len, stages))


@pytest.mark.parametrize(
    "unit",
    [
        "<Plan_1>",
        "<execution_1.1>",
        "<Execution_1>",
        "<think>",
        "</think>",
        "</Plan_1>",
        "<Plan_1><execution_1.1>",
        "<Plan_1><prompt_1.1>a</prompt_1.1></Plan_1><execution_1.1>",
        "<Final_answer>",
        "<|im_end|>",
        "x </Final_answer>",
    ],
)
def test_work_is_linear(unit: str) -> None:
    assert lines(unit * 400) <= 5 * lines(unit * 100)


def lines(text: str) -> int:
    """Count the lines of Python that are executed to read ``text``."""
    count = 0

    def trace(frame: object, event: str, argument: object) -> object:
        nonlocal count
        count += event == "line"
        return trace

    previous = sys.gettrace()
    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        Trajectory.from_text(text)
    finally:
        sys.settrace(previous)
    return count
