"""Units: sentences, and whatever stays whole."""

import pytest

from sprint_finetune.curation.units import units_of


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("It is 3.5 cm. So x = 2.", ["It is 3.5 cm.", "So x = 2."]),
        ("See Fig. 3, e.g. There is more.", ["See Fig. 3, e.g. There is more."]),
        ("Option B. The second.", ["Option B.", "The second."]),
        ("Multiply by i. Therefore, it turns.", ["Multiply by i.", "Therefore, it turns."]),
        ("We know $a. B = 3$ here. Good.", ["We know $a. B = 3$ here.", "Good."]),
        ("1. First. Then more.\n- One. Two.", ["1. First. Then more.", "- One. Two."]),
        ("We solve this:\n\\[\nx = 3\n\\]\nGood.", ["We solve this:\n\\[\nx = 3\n\\]", "Good."]),
        ("```\na = 1. B = 2\n\nprint(a)\n```\nDone.", ["```\na = 1. B = 2\nprint(a)\n```", "Done."]),
        ("The matrix is [1 2]\n[1 0]\n[0 1]\nSo.", ["The matrix is [1 2]", "[1 0]\n[0 1]", "So."]),
        ("\n---\n\n", []),
        (f"{'.' * 100_000}x? Yes.", [f"{'.' * 100_000}x?", "Yes."]),
    ],
)
def test_a_text_is_cut_into_units(text: str, units: list[str]) -> None:
    assert [unit.text for unit in units_of(text)] == units
