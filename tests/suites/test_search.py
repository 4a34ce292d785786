import pytest
from support.tiny import variant

from bench.suites import SUITES
from bench.worlds import World


def test_search_forgets_the_concepts_that_the_world_sets_aside(world: World) -> None:
    tuned = variant(world, tuning_concepts=world.concepts[2:4])
    assert [task.forget for task in SUITES.get("search").tasks(tuned)] == [(c,) for c in world.concepts[2:4]]


def test_search_refuses_world_that_sets_no_concept_aside(world: World) -> None:
    with pytest.raises(ValueError, match="sets no concept aside to tune on"):
        SUITES.get("search").tasks(variant(world, tuning_concepts=()))
