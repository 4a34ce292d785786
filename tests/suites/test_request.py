from pathlib import Path

import pytest
from support.tiny import variant

from bench.commands import main
from bench.core.config import RunConfig
from bench.plan import plan
from bench.plan.plan import resolve
from bench.suites import SUITES, Request
from bench.worlds import WORLDS, World


@pytest.fixture
def pocket() -> World:
    return WORLDS.get("pocket")


def test_request_is_false_only_if_it_names_nothing() -> None:
    assert not Request()
    assert Request(("tulip",))
    assert Request(counts=(2,))


@pytest.mark.parametrize(
    ("suite", "forget", "counts", "message"),
    [
        ("multi", ("tulip", "tulip"), (), "--forget names 'tulip' twice; name each concept once"),
        ("sequential", ("tulip", "rose"), (), "has no concept 'rose': did you mean"),
        ("multi", ("tulip",), (1,), "--forget already says how many concepts: leave out --k"),
        ("multi", (), (24,), "--k 24 is too large: the world 'pocket' has 24 concepts"),
        ("multi", (), (17,), "17 concepts can't be forgotten at once in the world 'pocket'"),
        ("multi", (), (15,), "each domain that they come from must keep one, so --k can be at most 14"),
        ("multi", (), (2, 2), "--k takes numbers that are at least 1 and differ from each other, not 2 2"),
        ("multi", (), (0,), "--k takes numbers that are at least 1 and differ from each other, not 0"),
        ("sequential", ("tulip",), (), "a sequence needs at least two concepts to forget, one after another, not 1"),
        ("finegrained", (), (2,), "the suite 'finegrained' takes no --k"),
        ("style", ("tulip",), (), "the suite 'style' takes no --forget"),
    ],
)  # fmt: skip
def test_run_refuses_impossible_request(
    suite: str, forget: tuple[str, ...], counts: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        resolve(RunConfig(suite=suite, forget=forget, several=counts))


def test_run_refuses_request_that_empties_a_domain(pocket: World) -> None:
    birds = pocket.domains["bird"]
    with pytest.raises(ValueError, match="all 8 concepts of 'bird' would be forgotten"):
        resolve(RunConfig(suite="sequential", forget=birds))
    with pytest.raises(ValueError, match="all 8 concepts of 'bird' would be forgotten"):
        resolve(RunConfig(suite="multi", forget=("tulip", *birds)))
    with pytest.raises(ValueError, match="concepts of 'style' would be forgotten"):
        resolve(RunConfig(suite="multi", forget=pocket.styles[1:]))
    assert len(SUITES.get("multi").tasks(pocket, Request(birds[1:]))) == 1


def test_run_forgets_each_concept_of_a_domain_in_a_model_of_its_own(pocket: World) -> None:
    birds = pocket.domains["bird"]
    assert [task.name for task in resolve(RunConfig(suite="finegrained", forget=birds)).tasks] == [*birds]


def test_run_refuses_request_before_it_looks_for_the_backbone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(plan, "locate", lambda *given: pytest.fail("it looked for the backbone"))
    words = ["--suite", "multi", "--forget", "tulip", "tulip", "--backbone", "sd15", "--out", str(tmp_path)]
    assert main.main(words) == 2
    assert "--forget names 'tulip' twice" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_concept_of_another_world_is_refused(pocket: World) -> None:
    small = variant(pocket, domains={"bird": pocket.domains["bird"]})
    Request(("tulip",)).check(pocket, one_model=True)
    with pytest.raises(ValueError, match="has no concept 'tulip'"):
        Request(("tulip",)).check(small, one_model=True)
