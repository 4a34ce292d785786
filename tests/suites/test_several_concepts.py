import itertools

import pytest
from support.tiny import variant

from bench.cells import fingerprint
from bench.core.config import RunConfig
from bench.core.task import Task
from bench.plan.plan import resolve
from bench.suites import SUITES, Request, several
from bench.suites.neighbours import nearest_neighbour
from bench.suites.several import alternate, split_targets, targets_by_domain
from bench.worlds import WORLDS, World


@pytest.fixture
def pocket() -> World:
    return WORLDS.get("pocket")


def names(tasks: tuple[Task, ...]) -> list[str]:
    return [task.name for task in tasks]


def test_alternate_takes_one_of_each_group_in_turn() -> None:
    assert alternate([("a", "b", "c"), ("1",), ("x", "y")]) == ("a", "1", "x", "b", "y", "c")


def test_split_targets_leaves_the_last_domain_alone() -> None:
    assert split_targets([("a", "b"), ("1", "2"), ("x",)]) == (("a", "1", "b", "2"), ("x",))
    assert split_targets([("a", "b"), ("1", "2")]) == (("a", "b"), ("1", "2"))
    assert split_targets([("a", "b")]) == (("a", "b"), ())


def test_targets_are_ordered_so_that_twins_are_not_both_forgotten(pocket: World) -> None:
    for domain, order in zip(pocket.domains, targets_by_domain(pocket), strict=True):
        assert sorted(order) == sorted(pocket.domains[domain])
        assert order[3] not in {nearest_neighbour(pocket, c)[0] for c in order[:3]}
        assert set(pocket.tuning_concepts).isdisjoint(order[:4])


def test_multi_forgets_the_first_concepts_of_one_list(pocket: World) -> None:
    tasks = SUITES.get("multi").tasks(pocket)
    assert names(tasks) == ["2 within", "2 across", "4 across", "8 across"]
    assert [task.band for task in tasks] == ["k=2", "k=2", "k=4", "k=8"]
    within, *across = tasks
    assert len({pocket.domain_of(c) for c in within.forget}) == 1
    for smaller, larger in itertools.pairwise(across):
        assert larger.forget[: len(smaller.forget)] == smaller.forget
    for task in tasks:
        assert sorted(task.concepts) == sorted(pocket.concepts)
        domains = {pocket.domain_of(c) for c in task.forget}
        assert {pocket.domain_of(c) for c in task.in_domain} == domains  # some concept of each is kept
        assert {pocket.domain_of(c) for c in task.out_of_domain} == set(pocket.domains) - domains != set()


def test_multi_takes_requested_concepts_and_counts(pocket: World) -> None:
    suite = SUITES.get("multi")
    assert names(suite.tasks(pocket, Request(("poodle", "tulip")))) == ["poodle + tulip"]
    assert names(suite.tasks(pocket, Request(counts=(3,)))) == ["3 within", "3 across"]


def test_multi_forgets_as_many_as_leave_one_concept_of_each_domain(pocket: World) -> None:
    tasks = SUITES.get("multi").tasks(pocket, Request(counts=(14,)))
    (task,) = (task for task in tasks if task.name == "14 across")
    assert sorted(sum(c in members for c in task.forget) for members in pocket.domains.values()) == [0, 7, 7]


@pytest.mark.parametrize("domains", [1, 2])
def test_multi_forgets_of_one_domain_in_a_small_world(domains: int, world: World) -> None:
    small = variant(world, domains=dict(list(world.domains.items())[:domains]))
    tasks = SUITES.get("multi").tasks(small, Request(counts=(2,)))
    (task,) = (task for task in tasks if task.name == "2 across")
    assert len({small.domain_of(c) for c in task.forget}) == 1
    assert bool(task.out_of_domain) == (domains > 1)


def test_sequential_requests_add_up(pocket: World) -> None:
    tasks = SUITES.get("sequential").tasks(pocket)
    assert len(tasks) == 5
    assert [len(task.request) for task in tasks] == [1] * 5
    for before, task in itertools.pairwise(tasks):
        assert task.after == before
        assert task.forget == before.forget + task.request
    assert tasks[-1].out_of_domain  # one domain is left alone
    assert tasks[-1].forget == tuple(t.request[0] for t in tasks[-1].chain)


def test_sequential_takes_requested_concepts_and_styles(pocket: World) -> None:
    suite = SUITES.get("sequential")
    assert names(suite.tasks(pocket, Request(("poodle", "tulip")))) == ["1 poodle", "2 tulip"]
    styled = suite.tasks(pocket, Request(("sketch", "tulip")))
    assert "sketch" not in styled[1].in_domain


@pytest.mark.parametrize(("suite", "name", "value"), [("multi", "SEVERAL", (2, 4)), ("sequential", "REQUESTS", 4)])
def test_other_numbers_of_concepts_change_the_fingerprint(
    suite: str, name: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured() -> str:
        return fingerprint.short(fingerprint.describe(resolve(RunConfig(suite=suite)), "", "", {}))

    before = measured()
    assert measured() == before
    monkeypatch.setattr(several, name, value)
    assert measured() != before
