import pytest
from hypothesis import given
from hypothesis import strategies as st

from sprint_agents import Context

segments = st.lists(st.tuples(st.lists(st.integers(0, 9), max_size=4), st.text(max_size=4)), max_size=8)


@given(
    st.lists(st.tuples(st.integers(0, 30), st.lists(st.integers(0, 9), max_size=4), st.text(max_size=4)), max_size=30)
)
def test_a_tree_of_contexts_never_changes_what_is_there(steps):
    nodes = [Context()]
    expected = [([], "")]
    for parent, ids, text in steps:
        parent %= len(nodes)
        nodes.append(nodes[parent].extend(ids, text))
        expected.append((expected[parent][0] + ids, expected[parent][1] + text))
        for node, (all_ids, all_text) in zip(nodes, expected, strict=True):
            assert node.flatten() == all_ids
            assert node.text == all_text
            assert len(node) == len(all_ids)


@given(segments, segments)
def test_since_gives_what_was_added_after_an_ancestor(before, after):
    context = Context()
    for ids, text in before:
        context = context.extend(ids, text)
    ancestor = context
    for ids, text in after:
        context = context.extend(ids, text)
    assert ancestor.flatten() + context.ids_since(ancestor) == context.flatten()
    assert ancestor.text + context.text_since(ancestor) == context.text


def test_a_fork_costs_nothing():
    context = Context().extend(range(1000), "x")
    assert context.extend([], "") is context
    assert context.extend([1], "y").parent is context


def test_a_chain_of_any_depth_is_walked_without_recursion():
    context = Context()
    for token in range(50_000):
        context = context.extend([token], "")
    assert context.flatten() == list(range(50_000))


def test_a_context_of_another_branch_is_no_ancestor():
    left, right = Context().extend([1], ""), Context().extend([2], "")
    with pytest.raises(ValueError, match="not an ancestor"):
        right.ids_since(left)


def test_an_empty_context_is_true():
    assert Context()
