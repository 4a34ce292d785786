"""Names and patterns of methods and metrics."""

from pathlib import Path

import pytest

from bench.commands import main
from bench.core.config import RunConfig
from bench.core.registry import UnknownName
from bench.plan.names import is_pattern, method_names, metric_names, named
from bench.plan.plan import resolve
from bench.worlds import World
from metrics import METRICS


def test_a_pattern_stands_for_the_names_that_it_fits() -> None:
    assert method_names(["esd*", "mimmu"])[-4:] == ("esd-x", "esd-x-present", "esd-u", "mimmu")
    assert metric_names(["pid_*", "ua"]) == tuple(n for n in METRICS.names() if n.startswith("pid_") or n == "ua")
    assert set(method_names(["*"])) == set(method_names(["all"]))
    assert metric_names(["*"]) == metric_names(["all"])


def test_a_tag_stands_for_the_methods_that_have_it() -> None:
    assert method_names(["tag:inference", "sdd"])[-4:] == ("negative-prompt", "sld", "safree", "sdd")
    assert set(method_names(["tag:closed-form"])) < set(method_names(["tag:compensation"]))
    assert named("uce", ["tag:closed-form"])
    assert not named("uce", ["tag:inference"])
    with pytest.raises(UnknownName, match=r"no method has the tag 'closed': did you mean 'closed-form'"):
        method_names(["tag:closed"])


@pytest.mark.parametrize("pattern", ["edsx*", "s?dd"])
def test_a_pattern_that_fits_no_name_has_the_nearest_named(pattern: str) -> None:
    with pytest.raises(UnknownName, match=r"no method fits the pattern .* did you mean '(esd-x|sdd)"):
        method_names([pattern])
    with pytest.raises(UnknownName, match=r"no metric fits the pattern 'drft\*': did you mean 'drift'"):
        metric_names(["drft*"])


def test_a_name_is_meant_by_its_pattern() -> None:
    assert named("esd-x", ["esd*"])
    assert named("esd-x", ["all"])
    assert not named("esd-x", ["sdd", "e?d"])
    assert not is_pattern("esd-x")


def test_force_computes_again_what_a_pattern_stands_for(world: World, tmp_path: Path) -> None:
    run = RunConfig(("esd*", "mimmu"), "smoke", "tiny", force=True, out=tmp_path)
    assert resolve(run).recompute == ("esd-x", "esd-x-present", "esd-u", "mimmu")


def test_patterns_work_on_the_command_line(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "--world", "tiny", "--suite", "smoke", "--out", str(tmp_path), "--methods"]
    assert main.main([*words, "esd*"]) == 0
    told = capsys.readouterr().out
    assert "esd-u" in told
    assert "--methods 'esd*'" in told
    assert main.main([*words, "esx*"]) == 2
    assert "no method fits the pattern 'esx*': did you mean" in capsys.readouterr().out
