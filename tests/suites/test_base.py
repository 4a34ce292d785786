import dataclasses
import doctest
import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest
from support.tiny import variant

from bench.core import registry
from bench.core.task import Task
from bench.suites import SUITES, Request, Suite, base
from bench.worlds import World


def first_concept(world: World) -> tuple[Task, ...]:
    first, *others = world.concepts
    return (Task(first, (first,), tuple(others), ()),)


SUITE = Suite("mine", "the first concept", first_concept)


def test_docstring_example_runs() -> None:
    found = doctest.testmod(base)
    assert found.attempted >= 5
    assert found.failed == 0


def test_world_rule_replaces_suite_rule(world: World) -> None:
    own = Task("own", world.concepts[:2], world.concepts[2:], ())
    ruled = variant(world, tasks={"mine": lambda: (own,)})
    assert SUITE.tasks(world) == first_concept(world)
    assert SUITE.tasks(ruled) == (own,)


def test_request_comes_before_every_rule(world: World) -> None:
    def requested(world: World, request: Request) -> tuple[Task, ...]:
        return (Task("requested", request.forget, world.concepts[:2], ()),)

    suite = dataclasses.replace(SUITE, choose_requested=requested)
    ruled = variant(world, tasks={"mine": lambda: ()})
    (task,) = suite.tasks(ruled, Request(world.concepts[3:5]))
    assert task.forget == world.concepts[3:5]


def test_suite_of_all_styles_uses_view_of_world(world: World) -> None:
    suite = dataclasses.replace(SUITE, all_styles=True)
    other = variant(world, domains={"letter": ("a", "b")})
    styled = variant(world, all_styles_view=lambda: other)
    assert SUITE.view(styled) is styled
    assert suite.view(styled) is other
    assert [task.name for task in suite.tasks(styled)] == ["a"]
    ruled = variant(styled, tasks={"mine": lambda: ()})
    assert suite.view(ruled) is ruled
    with pytest.raises(ValueError, match="the suite 'mine' asks for concepts in every style, and the world 'tiny' has"):
        suite.view(variant(world, all_styles_view=lambda: None))


def test_suite_refuses_request_that_it_cannot_take(world: World) -> None:
    with pytest.raises(ValueError, match="the suite 'mine' takes no --forget: it chooses the concepts itself"):
        SUITE.tasks(world, Request(world.concepts[:1]))
    with pytest.raises(
        ValueError, match="the suite 'mine' takes no --k; leave it out, or choose a suite such as multi"
    ):
        SUITE.tasks(world, Request(counts=(2,)))


def test_suite_refuses_curve_reason_without_curve() -> None:
    with pytest.raises(ValueError, match=r"a curve_reason needs a curve; curve is 0, and must be at least 2"):
        dataclasses.replace(SUITE, curve_reason="it has one")


def test_listing_names_imports_no_suite() -> None:
    code = "import sys; from bench.suites import SUITES; SUITES.names(); print('bench.suites.smoke' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_every_suite_has_the_name_that_it_is_registered_by() -> None:
    assert [SUITES.get(name).name for name in SUITES.names()] == list(SUITES.names())


def test_other_package_announces_suite_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    points = {"lethe.suites": [EntryPoint("theirs", "bench.suites.smoke:SMOKE", "lethe.suites")]}
    monkeypatch.setattr(registry, "entry_points", lambda group: points[group])
    with SUITES.temporarily():
        SUITES._discovered = False  # as in a new process
        assert SUITES.names()[-1] == "theirs"
        assert SUITES.get("theirs") is SUITES.get("smoke")
