import dataclasses

import pytest

from bench.core.task import Task
from bench.suites.base import SUITES, banded_targets, nearest_neighbour, single
from bench.worlds import World


@pytest.fixture
def graded(world: World) -> World:
    """A world in which closeness is known: the i-th and j-th concept of a domain of four."""
    pairs = {frozenset("ab"): 0.9, frozenset("cd"): 0.4, frozenset("ac"): 0.1, frozenset("ce"): 0.65}

    def closeness(a: str, b: str) -> float:
        return pairs.get(frozenset((a, b)), 0.0)

    domains = {"letter": tuple("abcde"), "digit": tuple("123")}
    return dataclasses.replace(world, domains=domains, closeness=closeness, styles=("plain",), all_styles_view=None)


def test_a_world_may_say_what_one_concept_leaves_to_stay(world: World) -> None:
    other = world.concepts[6]
    own = dataclasses.replace(world, single_task=lambda c: Task(c, (c,), world.domain_members(c)[1:3], (other,)))
    (task,) = single(own, world.concepts[3:4])
    assert task == Task(task.name, world.concepts[3:4], world.domain_members(task.name)[1:3], (other,))


def test_the_nearest_neighbour_is_the_closest_sibling(graded: World) -> None:
    assert nearest_neighbour(graded, "a") == ("b", 0.9)
    assert nearest_neighbour(graded, "d") == ("c", 0.4)


def test_targets_span_the_bands_of_closeness(graded: World) -> None:
    # nearest: a .9, b .9, c .65, d .4, e .65; half way between .4 and .9 is .65
    # c is the neighbour of d, so the middle band falls to e
    assert banded_targets(graded, "letter") == {"far": "d", "middle": "e", "near": "b"}


def test_finegrained_forgets_three_of_each_domain_and_keeps_all_else(world: World) -> None:
    tasks = SUITES.get("finegrained").tasks(world)
    assert len(tasks) == 9
    assert len({task.name for task in tasks}) == 9
    for task in tasks:
        (target,) = task.forget
        domain = set(world.domains[world.domain_of(target)])
        assert set(task.in_domain) == domain - {target}
        assert set(task.out_of_domain) == set(world.concepts) - domain
        assert len(task.concepts) == len(world.concepts)
    closeness = {t.band: nearest_neighbour(world, t.forget[0])[1] for t in tasks[:3]}
    assert closeness["far"] < closeness["middle"] < closeness["near"]


def test_too_small_a_domain_is_refused(graded: World) -> None:
    small = dataclasses.replace(graded, domains={"letter": tuple("ab")})
    with pytest.raises(ValueError, match="fewer than three"):
        banded_targets(small, "letter")


def test_a_world_that_tunes_on_a_concept_forgets_another(graded: World) -> None:
    assert banded_targets(dataclasses.replace(graded, tuning_concepts=("d",)), "letter")["far"] in "ce"
    with pytest.raises(ValueError, match="fewer than three"):
        banded_targets(dataclasses.replace(graded, tuning_concepts=("1",)), "digit")
    with pytest.raises(ValueError, match="sets no concept aside"):
        SUITES.get("search").tasks(graded)


def test_style_forgets_each_but_the_plain_one(graded: World) -> None:
    styled = dataclasses.replace(graded, styles=("plain", "sketch", "neon"))
    sketch, neon = SUITES.get("style").tasks(styled)
    assert (sketch.forget, sketch.in_domain, sketch.out_of_domain) == (("sketch",), ("plain", "neon"), styled.concepts)
    assert neon.forget == ("neon",)
    with pytest.raises(ValueError, match="fewer than two styles"):
        SUITES.get("style").tasks(graded)


def test_object_forgets_across_styles_what_no_style_names(graded: World) -> None:
    suite = SUITES.get("object")
    with pytest.raises(ValueError, match="one style"):
        suite.view(graded)
    styled = dataclasses.replace(
        graded, styles=("plain", "sketch"), prompts=lambda split, concept: (f"{concept} of a", f"{concept} of the d, 2")
    )
    assert suite.view(dataclasses.replace(graded, all_styles_view=lambda: styled)) is styled
    tasks = suite.tasks(styled)
    # a and d are named; of b .9, c .65, e .65 and of 1, 3, both 0, the closest, or the last by name
    assert [task.name for task in tasks] == ["b", "3"]
    assert tasks[0].in_domain == ("a", "c", "d", "e")
    assert [t.name for t in suite.tasks(dataclasses.replace(styled, tuning_concepts=("b", "3")))] == ["e", "1"]
    assert tasks[0].out_of_domain == styled.styles


def test_smoke_has_every_role(world: World) -> None:
    (task,) = SUITES.get("smoke").tasks(world)
    assert (len(task.forget), len(task.in_domain), len(task.out_of_domain)) == (1, 2, 2)
    assert world.domain_of(task.in_domain[0]) == world.domain_of(task.forget[0])
    assert world.domain_of(task.out_of_domain[0]) != world.domain_of(task.forget[0])
