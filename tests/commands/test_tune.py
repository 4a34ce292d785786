import math
from pathlib import Path

import pandas as pd
import pytest
from support.tiny import variant

from bench.cells.checks import recognition
from bench.commands import main, tune
from bench.worlds import WORLDS, World


def found(**changes: list) -> pd.DataFrame:
    rows = {
        "method": ["mimmu"] * 3, "lr": [4e-4, 1e-4, 2e-4], "ua": [100.0, 50.0, 100.0], "nra": [100.0, 100.0, 100.0],
        "ora": [100.0, 100.0, 99.0], "twin": [100.0] * 3, "drift": [0.3, 0.1, 0.2], "seconds": [1.0] * 3,
        "status": ["ok"] * 3, **changes,
    }  # fmt: skip
    return pd.DataFrame(rows)


def best(given: pd.DataFrame) -> dict[str, float]:
    rows = tune.chosen(given)
    return rows[rows["best"] == "yes"].set_index("method")["lr"].to_dict()


def test_summary_is_harmonic_mean() -> None:
    assert tune.summary({"ua": 50.0, "nra": 100.0, "ora": 100.0}) == pytest.approx(75)
    assert tune.summary({"ua": 0.0, "nra": 100.0, "ora": 100.0}) == 0
    assert tune.summary({"ua": math.nan, "nra": 100.0, "ora": 100.0}) is None


def test_drift_decides_between_rates_with_close_summary() -> None:
    assert best(found()) == {"mimmu": 2e-4}
    assert best(found(ora=[100.0, 100.0, 90.0])) == {"mimmu": 4e-4}
    assert tune.chosen(found())["lr"].tolist() == [1e-4, 2e-4, 4e-4]


def test_failed_rate_is_never_best_and_methods_are_separate() -> None:
    assert best(found(ua=[100.0, 50.0, None])) == {"mimmu": 4e-4}
    assert best(found(ua=[None] * 3)) == {}
    assert best(found(method=["mimmu", "salun", "salun"])) == {"mimmu": 4e-4, "salun": 2e-4}


def test_search_extends_rates_if_best_is_extreme() -> None:
    assert tune.further(tune.chosen(found())) == {}
    assert tune.further(tune.chosen(found(ora=[100.0, 100.0, 90.0]))) == {8e-4: ["mimmu"]}
    assert tune.further(tune.chosen(found(ua=[100.0] * 3))) == {5e-5: ["mimmu"]}
    assert tune.further(tune.chosen(found(method=["mimmu", "salun", "salun"]))) == {
        2e-4: ["mimmu"], 8e-4: ["mimmu"], 4e-4: ["salun"]
    }  # fmt: skip


@pytest.mark.huge
@pytest.mark.usefixtures("plugged")
def test_every_method_gets_same_search(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    WORLDS.add("tuned", variant(world, name="tuned", tuning_concepts=("dalmatian",)))
    monkeypatch.setattr(tune, "FURTHER", 1)
    monkeypatch.setattr(recognition, "ENOUGH", math.inf)  # the judges know nothing
    small = ["--world", "tuned", "--workers", "1", "--out", str(tmp_path), "--methods", "mimmu", "salun"]
    assert main.main(["tune", *small, "--lr", "1e-4", "1e-3"]) == 0
    table = pd.read_csv(tmp_path / "tuning-tuned.csv")
    for method in ("mimmu", "salun"):
        rows = table[table["method"] == method]
        assert {1e-4, 1e-3} <= set(rows["lr"])
        assert len(rows) == 3  # of two rates one is at an end
        assert (rows["best"] == "yes").sum() == 1
        assert rows["lr"].is_monotonic_increasing
        assert rows["drift"].is_unique
    assert (table["status"] == "ok").all()
    assert "written" in capsys.readouterr().out
    assert main.main(["tune", *small[:-2], "mimum"]) == 2
    assert "did you mean 'mimmu'" in capsys.readouterr().out
