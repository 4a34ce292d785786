import dataclasses

import pytest
from support.tiny import variant

from bench.core.task import Task
from bench.suites import SUITES, Request
from bench.suites.finegrained import near_twin_tasks, single_tasks, targets_by_band
from bench.suites.neighbours import nearest_neighbour
from bench.worlds import WORLDS, World


@pytest.fixture
def graded(world: World) -> World:
    """A world of a domain of five letters whose closeness is known, and of a domain of three digits."""
    pairs = {frozenset("ab"): 0.9, frozenset("cd"): 0.4, frozenset("ac"): 0.1, frozenset("ce"): 0.65}

    def closeness(a: str, b: str) -> float:
        return pairs.get(frozenset((a, b)), 0.0)

    domains = {"letter": tuple("abcde"), "digit": tuple("123")}
    return variant(world, domains=domains, closeness=closeness, styles=("plain",), all_styles_view=lambda: None)


def test_targets_span_the_bands_of_closeness(graded: World) -> None:
    # nearest: a .9, b .9, c .65, d .4, e .65; half way between .4 and .9 is .65
    # c is the nearest neighbour of d, so the middle band falls to e
    assert targets_by_band(graded, "letter") == {"far": "d", "middle": "e", "near": "b"}


def test_domain_of_two_concepts_is_refused(graded: World) -> None:
    small = variant(graded, domains={"letter": tuple("ab")})
    with pytest.raises(ValueError, match="fewer than three"):
        targets_by_band(small, "letter")


def test_concept_that_presets_were_tuned_on_is_no_target(graded: World) -> None:
    assert targets_by_band(variant(graded, tuning_concepts=("d",)), "letter")["far"] in "ce"
    with pytest.raises(ValueError, match="fewer than three"):
        targets_by_band(variant(graded, tuning_concepts=("1",)), "digit")


def test_finegrained_forgets_three_concepts_of_each_domain_and_keeps_all_others(world: World) -> None:
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


def test_finegrained_takes_requested_concepts() -> None:
    tasks = SUITES.get("finegrained").tasks(WORLDS.get("pocket"), Request(("poodle", "tulip")))
    assert [task.forget for task in tasks] == [("poodle",), ("tulip",)]


def test_world_may_say_what_a_single_task_keeps(world: World) -> None:
    other = world.concepts[6]
    own = variant(world, single_task=lambda c: Task(c, (c,), world.domain_members(c)[1:3], (other,)))
    (task,) = single_tasks(own, world.concepts[3:4])
    assert task == Task(task.name, world.concepts[3:4], world.domain_members(task.name)[1:3], (other,))


def test_near_twins_are_the_near_targets_or_all_without_bands(world: World) -> None:
    assert [task.band for task in near_twin_tasks(world)] == ["near"] * 3
    unbanded = tuple(dataclasses.replace(task, band="") for task in SUITES.get("finegrained").tasks(world))
    assert near_twin_tasks(variant(world, tasks={"finegrained": lambda: unbanded})) == unbanded
