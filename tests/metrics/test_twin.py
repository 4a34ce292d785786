import dataclasses

from support.exhibits import ALL, whole
from support.tiny import variant

from bench.cells.evidence import nearest
from bench.core.task import Task
from bench.worlds import World
from metrics import METRICS
from metrics.base import Score

TWIN = METRICS.get("twin")


def test_twin_equals_accuracy_computed_by_hand() -> None:
    given = whole({"a": "aaaa", "b": "bbbb", "c": "cbac", "d": "xxxx"})
    assert TWIN.compute(given) == Score(2 / 4, 4)
    assert TWIN.compute(dataclasses.replace(given, nearest=("b", "c"))) == Score(6 / 8, 8)


def test_twin_is_one_if_all_right_and_zero_if_all_wrong() -> None:
    assert TWIN.compute(whole({c: c * 3 for c in ALL})) == Score(1, 3)
    assert TWIN.compute(whole({**{c: c * 3 for c in ALL}, "c": "bbb"})) == Score(0, 3)


def test_nearest_is_closest_retained_concept(world: World) -> None:
    dogs = ("golden retriever", "labrador retriever", "pembroke corgi", "cardigan corgi")

    def closest(forget: tuple[str, ...], kept: tuple[str, ...]) -> tuple[str, ...]:
        return nearest(world, Task("t", forget, kept, ("tulip",)))

    assert closest(dogs[:1], dogs[1:]) == ("labrador retriever",)
    assert closest(dogs[:1], dogs[2:]) == (max(dogs[2:], key=lambda c: world.closeness(dogs[0], c)),)
    assert closest((dogs[0], dogs[2]), (dogs[1], dogs[3])) == ("labrador retriever", "cardigan corgi")
    assert closest(dogs[:1], ()) == ()
    near = variant(world, closeness=lambda a, b: float("tulip" in (a, b)))  # closest of all, and no dog
    pair = Task("t", (dogs[0], "red rose"), (dogs[1], "tulip"), ())
    assert nearest(near, pair) == (dogs[1], "tulip")
