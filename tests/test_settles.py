"""What settles a stage: its forms, what a checkpoint says of it, and what a step costs by its width."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sprint_agents import Ask, Plan, Sprint
from sprint_agents.errors import ConfigurationError, InvalidCheckpoint
from sprint_agents.manifest import Manifest
from sprint_agents.nano import nano_path
from sprint_agents.policies import first_success, interleaved
from sprint_agents.policies.policy import name_of
from sprint_agents.settles import Settles
from sprint_agents.step_costs import MOST_AT_ONCE, StepCosts
from sprint_agents.testing import FakeEngine
from sprint_finetune.nano.export import NANO


def found(execution):
    return "x" in execution.text


@pytest.mark.parametrize("condition", ["x", re.compile("x|y"), found, Settles(holds="x", in_order=True)])
def test_a_step_keeps_any_condition_as_a_rule(condition):
    rule = Settles.of(condition)
    assert Settles.of(rule) is rule
    assert Ask(accept=condition).accept == Plan.of("a", accept=condition).accept == rule


def test_a_text_and_a_pattern_are_looked_for_in_the_text():
    text, pattern, start = (Settles(holds=condition) for condition in ("a.c", re.compile("a.c"), re.compile("^b")))
    assert [text.found_in("1 a.c 2"), text.found_in("abc")] == [True, False]
    assert [pattern.found_in("abc"), start.found_in("abc")] == [True, False]


def test_an_empty_text_is_refused():
    with pytest.raises(ConfigurationError, match="every execution holds an empty text"):
        Sprint(FakeEngine(""), settles="")
    with pytest.raises(ValidationError, match="every execution holds an empty text"):
        Ask(accept="")
    with pytest.raises(ValidationError, match="the text is empty"):
        Settles(holds="")


def test_a_policy_is_named_alike_in_every_process():
    assert name_of(first_success(interleaved, "answer=")) == "first_success(interleaved, 'answer=')"
    named = name_of(first_success(interleaved, Settles(holds=found)))
    assert named == "first_success(interleaved, Settles(holds='found', chance=0.25, in_order=False))"


def test_a_checkpoint_says_it_of_its_kinds_of_tasks_or_of_all():
    rule = Settles(holds="answer=", chance=0.4, in_order=True)
    shipped = Manifest.load(nano_path())
    assert shipped == NANO
    assert shipped.settles_stages("countdown") == rule
    assert shipped.settles_stages("arithmetic") is shipped.settles_stages("multiplication") is None
    for_all = Manifest.model_validate_json('{"model": "m", "settles": {"holds": "answer="}}')
    assert for_all.settles_stages(None) == for_all.settles_stages("any") == Settles(holds="answer=")
    assert Manifest.model_validate_json(NANO.model_dump_json()) == NANO


@pytest.mark.parametrize(
    ("settles", "fault"),
    [('{"chess": {"holds": "mate"}}', "the kind 'chess'"), ('{"holds": ""}', "settles"), ('"answer="', "settles")],
)
def test_a_wrong_rule_of_a_checkpoint_is_refused(tmp_path, settles, fault):
    (tmp_path / "sprint.json").write_text(f'{{"model": "m", "settles": {settles}}}')
    with pytest.raises(InvalidCheckpoint, match=f"is not a valid manifest: .*{fault}"):
        Manifest.load(tmp_path)


def test_the_chance_falls_with_every_execution_that_misses():
    rule = Settles(holds="x", chance=0.6)
    assert [rule.chance_after(missed) for missed in range(4)] == pytest.approx([0.6, 0.3, 0.2, 0.15])


def test_costs_lie_on_lines_between_the_known_widths():
    costs = StepCosts(seconds={12: 6, 1: 2, 4: 4})
    assert [costs.at(width) for width in (1, 2.5, 4, 8, 12, 20)] == [2, 3, 4, 5, 6, 8]
    assert StepCosts(seconds={3: 2}).at(9) == 2


@pytest.mark.parametrize("seconds", [{}, {0: 1}, {1: 0}, {1: -1}])
def test_impossible_costs_are_refused(seconds):
    with pytest.raises(ValidationError):
        StepCosts(seconds=seconds)


def test_the_width_depends_on_the_costs_and_on_the_chance():
    dear, cheap = StepCosts(seconds={1: 1, 2: 2}), StepCosts(seconds={1: 1, 2: 1})
    assert [dear.width(chance=chance) for chance in (0.01, 0.5, 1)] == [1, 1, 1]
    assert [cheap.width(chance=chance) for chance in (0.01, 0.2)] == [MOST_AT_ONCE, MOST_AT_ONCE]
    between = StepCosts(seconds={1: 2, 4: 4, 12: 6})
    assert [between.width(chance=chance) for chance in (0.05, 0.1, 0.25, 0.5, 1)] == [18, 12, 6, 2, 1]


@given(st.floats(0.01, 10), st.floats(0, 1), st.floats(0.01, 1), st.floats(0.01, 1))
def test_a_greater_chance_never_asks_for_more_at_once(base, slope, chance, other):
    costs = StepCosts(seconds={1: base, 2: base + slope})
    low, high = sorted([chance, other])
    assert costs.width(chance=high) <= costs.width(chance=low)
