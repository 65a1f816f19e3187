"""The pages are well-formed and self-contained, and escape all text from the source."""

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sprint_finetune.curation import Trace
from sprint_finetune.curation.html_report import PackedTrace, dag_svg, report_page, sample_page
from sprint_finetune.curation.packing import pack, shape_of
from sprint_finetune.curation.records import Packed, Rejection, Step, Violation
from sprint_finetune.curation.report import Tally
from sprint_finetune.curation.rules.rule_extractor import read_steps


@pytest.fixture
def shown(make_trace) -> PackedTrace:
    trace = make_trace("<t & co>", problem="Is 1 < 2 & 3 > 2?")
    packed = pack(*read_steps(trace))
    violation = Violation(step=3, part="execution", source=2, value="<504>")
    return PackedTrace(trace, packed, shape_of(packed).model_copy(update={"violations": (violation,)}))


def test_the_graph_has_a_box_a_step_and_a_line_a_dependency(shown: PackedTrace) -> None:
    svg = ET.fromstring(dag_svg(shown.packed))
    assert len(svg.findall("g")) == len(shown.packed.steps) == 4
    assert len(svg.findall("path")) == sum(map(len, shown.packed.parents))
    kinds = [box.attrib["class"] for box in svg.iter("rect")]
    assert kinds == ["plan", "delegated", "delegated", "plan"]
    # One column per stage, and no overlapping boxes.
    places = [(float(box.attrib["x"]), float(box.attrib["y"])) for box in svg.iter("rect")]
    assert len({*places}) == 4
    assert len({x for x, _ in places}) == len(shown.packed.stages) == 2


@pytest.mark.parametrize("page", ["sample", "report"])
def test_a_page_holds_no_script_nothing_from_outside_and_no_raw_text(shown: PackedTrace, page: str) -> None:
    tally = Tally()
    tally.pack(shown.shape)
    tally.reject(Rejection(id="<b>", stage="filter", reason="low_ratio", detail="1 < 1.5"))
    html = sample_page(shown) if page == "sample" else report_page(tally.report(), [shown])
    for word in ("<script", "http:", "https:", "src=", "href=", "@import", "<t & co>", "1 < 2", "<504>", "<b>"):
        assert word not in html
    assert "&lt;504&gt;" in html
    assert "Is 1 &lt; 2 &amp; 3 &gt; 2?" in html
    assert "There is &lt;t &amp; co&gt; in it." in html
    assert ("1 &lt; 1.5" in html) is (page == "report")


@given(st.text(max_size=30))
def test_any_description_makes_a_picture(words: str) -> None:
    clean = "".join(sign for sign in words if sign.isprintable())
    packed = Packed(id="t", steps=(Step(number=1, description=clean, plan=((1, 1),)),), parents=((),), stages=((1,),))
    assert clean[:5] in "".join(ET.fromstring(dag_svg(packed)).itertext())


def test_a_trace_without_stages_makes_a_page() -> None:
    trace = Trace(id="t", problem="?", trace="x", answer="1")
    packed = Packed(id="t", steps=(), parents=(), stages=())
    assert "<svg" in sample_page(PackedTrace(trace, packed, shape_of(packed)))
