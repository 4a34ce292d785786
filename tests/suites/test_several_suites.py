"""What suites of several requests ask for, and what is refused before anything is loaded."""

import dataclasses
import itertools
from pathlib import Path

import pytest

from bench.commands import main
from bench.core.config import RunConfig
from bench.core.task import Task
from bench.plan import plan
from bench.plan.plan import resolve
from bench.suites.base import SUITES, nearest_neighbour, targets_by_domain, tasks_of
from bench.suites.several import HARMLESS, RELEARNING, Asked
from bench.worlds import WORLDS, World


def names(tasks: tuple[Task, ...]) -> list[str]:
    return [task.name for task in tasks]


@pytest.fixture
def pocket() -> World:
    return WORLDS.get("pocket")


def test_targets_go_from_near_to_far_and_no_twin_is_forgotten_from_both_sides(pocket: World) -> None:
    for domain, order in zip(pocket.domains, targets_by_domain(pocket), strict=True):
        assert sorted(order) == sorted(pocket.domains[domain])
        assert order[3] not in {nearest_neighbour(pocket, c)[0] for c in order[:3]}
        assert set(pocket.tuning_concepts).isdisjoint(order[:4])


def test_many_at_once_are_the_first_of_one_list(pocket: World) -> None:
    tasks = tasks_of("multi", pocket)[1]
    assert names(tasks) == ["2 within", "2 across", "4 across", "8 across"]
    assert [task.band for task in tasks] == ["k=2", "k=2", "k=4", "k=8"]
    within, *across = tasks
    assert len({pocket.domain_of(c) for c in within.forget}) == 1
    for smaller, larger in itertools.pairwise(across):
        assert larger.forget[: len(smaller.forget)] == smaller.forget
    for task in tasks:
        assert sorted(task.concepts) == sorted(pocket.concepts)
        touched = {pocket.domain_of(c) for c in task.forget}
        assert {pocket.domain_of(c) for c in task.in_domain} == touched  # something is kept of each
        assert {pocket.domain_of(c) for c in task.out_of_domain} == set(pocket.domains) - touched != set()


def test_requests_follow_one_another_and_add_up(pocket: World) -> None:
    tasks = tasks_of("sequential", pocket)[1]
    assert len(tasks) == 5
    assert [len(task.request) for task in tasks] == [1] * 5
    for before, task in itertools.pairwise(tasks):
        assert task.after == before
        assert task.forget == before.forget + task.request
    assert tasks[-1].out_of_domain  # a domain is never touched
    assert tasks[-1].forget == tuple(t.request[0] for t in tasks[-1].chain)


def test_every_target_is_put_to_every_probe(pocket: World) -> None:
    tasks = tasks_of("resurgence", pocket)[1]
    assert len(tasks) == 3 * len(HARMLESS + RELEARNING) == len(set(names(tasks)))
    alone = {t.name: t for t in tasks_of("finegrained", pocket)[1]}
    for task in tasks:
        assert task.after == alone[task.forget[0]]  # the very weights of the fine-grained board
        assert task.in_domain == (nearest_neighbour(pocket, task.forget[0])[0],)
        assert len(task.out_of_domain) == 2
    assert tasks[0].forget != tasks[1].forget  # neighbours in the list share no weights


def test_a_user_names_what_is_forgotten(pocket: World) -> None:
    asked = Asked(("poodle", "tulip"))
    assert names(tasks_of("multi", pocket, asked)[1]) == ["poodle + tulip"]
    assert names(tasks_of("sequential", pocket, asked)[1]) == ["1 poodle", "2 tulip"]
    assert names(tasks_of("finegrained", pocket, asked)[1]) == ["poodle", "tulip"]
    assert {t.forget for t in tasks_of("resurgence", pocket, asked)[1]} == {("poodle",), ("tulip",)}
    assert names(tasks_of("multi", pocket, Asked(several=(3,)))[1]) == ["3 within", "3 across"]
    styled = tasks_of("sequential", pocket, Asked(("sketch", "tulip")))[1]
    assert "sketch" not in styled[1].in_domain


@pytest.mark.parametrize(
    ("suite", "forget", "several", "said"),
    [
        ("multi", ("tulip", "tulip"), (), "'tulip' is asked to be forgotten twice"),
        ("sequential", ("tulip", "rose"), (), "has no concept 'rose': did you mean"),
        ("multi", (), (24,), "24 concepts can't be forgotten at once: the world 'pocket' has 24 concepts"),
        ("multi", (), (17,), "17 concepts can't be forgotten at once in the world 'pocket'"),
        ("multi", (), (15,), "each domain that they are taken from must keep one, so --k can be at most 14"),
        ("multi", (), (2, 2), "--k takes different numbers from 1 on"),
        ("sequential", ("tulip",), (), "a sequence takes at least two concepts"),
        ("finegrained", (), (2,), "--k is for the suite multi"),
        ("style", ("tulip",), (), "'style' chooses itself what to forget; --forget is for finegrained"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(
    suite: str, forget: tuple[str, ...], several: tuple[int, ...], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        resolve(RunConfig(suite=suite, forget=forget, several=several))


def test_as_many_at_once_as_leave_a_concept_of_each_domain(pocket: World) -> None:
    (task,) = (t for t in tasks_of("multi", pocket, Asked(several=(14,)))[1] if t.name == "14 across")
    assert sorted(sum(c in members for c in task.forget) for members in pocket.domains.values()) == [0, 7, 7]


def test_a_domain_may_not_be_emptied(pocket: World) -> None:
    birds = pocket.domains["bird"]
    with pytest.raises(ValueError, match=r"nothing would be left of 'bird': all its 8 concepts are to be forgotten"):
        resolve(RunConfig(suite="sequential", forget=birds))
    with pytest.raises(ValueError, match="nothing would be left of 'bird'"):
        resolve(RunConfig(suite="multi", forget=("tulip", *birds)))
    assert len(tasks_of("multi", pocket, Asked(birds[1:]))[1]) == 1
    assert names(resolve(RunConfig(suite="finegrained", forget=birds)).tasks) == [*birds]  # each alone: the rest stays
    with pytest.raises(ValueError, match="nothing would be left of 'style'"):
        resolve(RunConfig(suite="multi", forget=pocket.styles[1:]))


def test_it_is_refused_before_anything_is_loaded_or_fetched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(plan, "locate", lambda *given: pytest.fail("it looked for the backbone"))
    words = ["--suite", "multi", "--forget", "tulip", "tulip", "--backbone", "sd15", "--out", str(tmp_path)]
    assert main.main(words) == 2
    assert "asked to be forgotten twice" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_of_two_domains_one_is_left_alone_and_of_one_none(world: World) -> None:
    two = dict(list(world.domains.items())[:2])
    for domains, touched in ((two, 1), (dict(list(two.items())[:1]), 1)):
        small = dataclasses.replace(world, domains=domains)
        (task,) = (t for t in tasks_of("multi", small, Asked(several=(2,)))[1] if t.name == "2 across")
        assert len({small.domain_of(c) for c in task.forget}) == touched
        assert bool(task.out_of_domain) == (len(domains) > 1)


def test_the_ablation_changes_one_setting_at_a_time() -> None:
    found = resolve(RunConfig(methods=("mimmu",), suite="noise-ablation"))
    rows = [name for name in found.methods if found.base_method(name) == "mimmu"]
    assert rows[0] == "mimmu"
    assert all(len(found.variants[name].values) == 1 for name in rows[1:])
    swept = {field for name in rows for field in found.variants[name].values}
    assert swept == {"t_min", "t_max", "weighting", "x_source", "parameters"}
    assert SUITES.get("noise-ablation").variants.keys() == {"mimmu"}
