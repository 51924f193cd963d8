"""Start levels follow from needs alone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.errors import InvalidInput
from atlas.runtime import Component, levels, with_needs


def component(name: str, *needs: str) -> Component:
    return Component(name=name, command=("true",), needs=needs)


def test_a_component_stands_one_level_above_the_highest_of_its_needs():
    stack = [
        component("worker", "redis"),
        component("live", "redis", "tables"),
        component("tables", "clickhouse"),
        component("redis"),
        component("clickhouse"),
    ]
    assert levels(stack) == (("clickhouse", "redis"), ("tables", "worker"), ("live",))


@st.composite
def stacks(draw: st.DrawFn) -> list[Component]:
    size = draw(st.integers(1, 8))
    found = [
        component(f"c{i}", *(f"c{j}" for j in range(i) if draw(st.booleans()))) for i in range(size)
    ]
    return draw(st.permutations(found))


@settings(max_examples=30, deadline=None)
@given(stacks())
def test_levels_equal_the_longest_chain_of_needs(stack: list[Component]):
    needs = {each.name: each.needs for each in stack}

    def depth(name: str) -> int:
        return max((1 + depth(need) for need in needs[name]), default=0)

    expected: list[list[str]] = [[] for _ in range(1 + max(map(depth, needs)))]
    for name in sorted(needs):
        expected[depth(name)].append(name)
    assert levels(stack) == tuple(map(tuple, expected))


def test_needs_in_a_circle_are_refused_with_the_circle():
    circle = [component("a", "b"), component("b", "c"), component("c", "a"), component("d")]
    with pytest.raises(InvalidInput, match=r"circle: (a needs b needs c needs a|b|c)"):
        levels(circle)


def test_a_need_that_is_not_in_the_stack_is_refused_by_name():
    with pytest.raises(InvalidInput, match="worker needs redis, which is not in the stack"):
        levels([component("worker", "redis")])


def test_two_components_of_one_name_are_refused():
    with pytest.raises(InvalidInput, match="Two components are named redis"):
        levels([component("redis"), component("redis")])


def test_selecting_a_component_brings_what_it_needs_and_nothing_else():
    stack = [
        component("a"),
        component("b", "a"),
        component("c", "b"),
        component("d", "a"),
    ]
    assert [each.name for each in with_needs(stack, ["c"])] == ["a", "b", "c"]


def test_selecting_an_unknown_component_names_the_known_ones():
    with pytest.raises(InvalidInput, match=r"no component named radis\. Known are redis"):
        with_needs([component("redis")], ["radis"])
