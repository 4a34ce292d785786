import pytest

from bench.cells import fingerprint
from bench.core.config import RunConfig
from bench.plan.plan import resolve
from bench.suites import SUITES, Request, resurgence
from bench.suites.neighbours import nearest_neighbour
from bench.suites.resurgence import HARMLESS, RELEARNING
from bench.worlds import WORLDS, World


@pytest.fixture
def pocket() -> World:
    return WORLDS.get("pocket")


def test_resurgence_has_every_fine_tuning_of_every_concept(pocket: World) -> None:
    tasks = SUITES.get("resurgence").tasks(pocket)
    assert len(tasks) == 3 * len(HARMLESS + RELEARNING) == len({task.name for task in tasks})
    alone = {t.name: t for t in SUITES.get("finegrained").tasks(pocket)}
    for task in tasks:
        assert task.after == alone[task.forget[0]]  # the same weights as on the fine-grained board
        assert task.in_domain == (nearest_neighbour(pocket, task.forget[0])[0],)
        assert len(task.out_of_domain) == 2
    assert tasks[0].forget != tasks[1].forget  # neighbours in the list share no weights


def test_resurgence_takes_requested_concepts(pocket: World) -> None:
    tasks = SUITES.get("resurgence").tasks(pocket, Request(("poodle", "tulip")))
    assert {task.forget for task in tasks} == {("poodle",), ("tulip",)}


@pytest.mark.parametrize(("name", "value"), [("HARMLESS", HARMLESS[:2]), ("RELEARNING", RELEARNING[1:])])
def test_other_fine_tunings_change_the_fingerprint(
    name: str, value: tuple[object, ...], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured() -> str:
        return fingerprint.short(fingerprint.describe(resolve(RunConfig(suite="resurgence", world="tiny")), "", "", {}))

    before = measured()
    assert measured() == before
    monkeypatch.setattr(resurgence, name, value)
    assert measured() != before
