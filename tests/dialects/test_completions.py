import pytest

from sprint_agents.dialects.completions import answer_value, boxed


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"\boxed{4}", "4"),
        (r"\boxed { 4 }", "4"),
        (r"first \boxed{1}, then \boxed{2}", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\boxed{3}}", r"\boxed{3}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"} and { \boxed{5}", "5"),
        (r"escaped in a log: \\boxed{6}", "6"),
        (r"\boxed{7} and \boxed{8", "7"),
        (r"\boxed{}", ""),
        (r"\boxed{9", None),
        (r"\boxed 9", None),
        ("", None),
    ],
)
def test_boxed(text: str, value: str | None) -> None:
    assert boxed(text) == value


def test_an_answer_without_a_box_is_its_text() -> None:
    assert answer_value("\nno solution found\n") == "no solution found"


def test_an_empty_box_is_an_empty_answer() -> None:
    assert answer_value(r"so \boxed{ }") == ""
