"""Hand-labelled traces: reading them, and comparing an extractor with them."""

from pathlib import Path

import pytest

from sprint_agents.errors import ConfigurationError
from sprint_finetune.curation.labelled_traces import Agreement, measure_agreement, read_labelled
from sprint_finetune.curation.records import Dag, Extraction, Step

TEXT = """topic: none
problem: How many?
answer: 3

@1
Two cases.
@2 after 1
Case 1 has one.

@3 after 1
Case 2 has two.
@4 after 2, 3
So three.
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "cases.txt"
    file.write_text(TEXT)
    return file


def test_a_file_is_read(path: Path) -> None:
    one = read_labelled(path)
    assert (one.trace.id, one.trace.problem, one.trace.answer) == ("cases", "How many?", "3")
    assert one.trace.trace.splitlines() == ["Two cases.", "Case 1 has one.", "Case 2 has two.", "So three."]
    assert [step.plan for step in one.extraction.steps] == [((1, 1),), ((2, 2),), ((3, 3),), ((4, 4),)]
    assert one.dag.parents == ((), (1,), (1,), (2, 3))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("problem: How many?\n", "", "no line 'problem"),
        ("@3 after 1", "@4 after 1", "found step 4 where step 3 is expected"),
        ("@3 after 1", "@3 after 7", "there is no step 7"),
        ("@2 after 1", "@2 after 3", "comes after it"),
        ("@1\n", "", "does not belong to a step"),
    ],
)
def test_a_file_that_is_not_as_it_should_be_is_an_error(path: Path, old: str, new: str, message: str) -> None:
    path.write_text(TEXT.replace(old, new))
    with pytest.raises(ConfigurationError, match=message):
        read_labelled(path)


def steps(*ranges: tuple[int, int]) -> Extraction:
    return Extraction(id="cases", steps=tuple(Step(number=n, plan=(lines,)) for n, lines in enumerate(ranges, 1)))


def test_agreement_goes_by_lines(path: Path) -> None:
    one = read_labelled(path)
    assert measure_agreement(one, one.extraction, one.dag) == Agreement(claimed=1, right=1, independent=1, found=1)
    sequential = Dag(id="cases", parents=((), (1,), (2,), (3,)))
    assert measure_agreement(one, one.extraction, sequential) == Agreement(claimed=0, right=0, independent=1, found=0)
    # The last case includes the total, so its claim is wrong, and the true pair is not found.
    greedy, claim = steps((1, 1), (2, 2), (3, 4)), Dag(id="cases", parents=((), (1,), (1,)))
    assert measure_agreement(one, greedy, claim) == Agreement(claimed=1, right=0, independent=1, found=1)
    # Two halves of one labelled step are not independent.
    halves, claim = steps((1, 2), (3, 3), (4, 4)), Dag(id="cases", parents=((), (), (1, 2)))
    assert measure_agreement(one, halves, claim).right == 0


def test_nothing_claimed_is_nothing_wrong() -> None:
    nothing = Agreement(claimed=0, right=0, independent=4, found=0)
    assert (nothing.precision, nothing.recall) == (1.0, 0.0)
    assert (nothing + Agreement(2, 1, 0, 0)).precision == 0.5
