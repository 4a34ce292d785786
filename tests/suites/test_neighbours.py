import pytest
from support.tiny import variant

from bench.suites.neighbours import nearest_neighbour
from bench.worlds import World


@pytest.fixture
def letters(world: World) -> World:
    pairs = {frozenset("ab"): 0.9, frozenset("cd"): 0.4}
    return variant(
        world,
        domains={"letter": tuple("abcd"), "digit": ("1",)},
        closeness=lambda a, b: pairs.get(frozenset((a, b)), 0.0),
    )


def test_nearest_neighbour_is_closest_concept_of_domain(letters: World) -> None:
    assert nearest_neighbour(letters, "a") == ("b", 0.9)
    assert nearest_neighbour(letters, "d") == ("c", 0.4)


def test_nearest_neighbour_is_closest_candidate(letters: World) -> None:
    assert nearest_neighbour(letters, "a", ("c", "d", "a")) == ("c", 0.0)


def test_concept_alone_in_domain_has_no_nearest_neighbour(letters: World) -> None:
    with pytest.raises(ValueError, match="'1' is the only concept of its domain"):
        nearest_neighbour(letters, "1")
