"""The committed results files fit the runs that they are of: no cell of a reference board is computed again."""

import dataclasses
import shlex
from pathlib import Path
from typing import Any

import pytest

from bench.backbones import folder
from bench.cells import judges as cell_judges
from bench.cells import outcomes
from bench.cells.artifacts import Artifacts, Context
from bench.commands import arguments, main, results_archive
from bench.core import device as devices
from bench.core import digest
from bench.core.config import Protocol
from bench.core.store import Entry
from bench.plan.plan import Plan, resolve
from bench.worlds import WORLDS
from methods import METHODS

FILES = sorted((Path(__file__).parents[2] / "leaderboards").rglob("*.results.tar.xz"))


@pytest.fixture(autouse=True)
def _committed_oracles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LETHE_ORACLES")  # boards of other tests have no row for oracles; these have


def planned(about: dict[str, Any]) -> Plan:
    words = shlex.split(about["command"])
    return resolve(arguments.run_config(arguments.parse(main.parser(), words[words.index("run_bench.py") + 1 :])))


def fitting(plan: Plan, about: dict[str, Any], records: dict[str, Any]) -> int:
    """How many cells of the plan are in a results file with all of their figures, by today's keys."""
    content, device = folder.content(plan.folder), devices.default_device()
    judges = cell_judges.Judges(plan.world, plan.concepts, device).digest
    artifacts = Artifacts(Context(plan, machine=about["machine"], content=content, judges_digest=lambda: judges))
    found = outcomes.Outcomes(artifacts)

    def stored(kind: str, key: Any) -> Entry | None:
        record = records.get(f"{kind}/{artifacts.store.path(kind, key).name}/record.json")
        return record and Entry(Path(), record["facts"], record["content"])

    whole = 0
    for cell in plan.cells:
        if (weights := stored("deltas", artifacts.weights.key(cell))) is None:
            continue
        wanted = [stored("scores", found.score_key(cell, weights, name)) for name in found.names]
        if plan.curve > 1:
            between = [stored("snapshots", artifacts.snapshot.key(cell, i, plan.curve)) for i in range(1, plan.curve)]
            known = [entry for entry in between if entry]
            wanted += [*between, stored("scores", found.curve_key(cell, weights, known))]
        whole += None not in wanted
    return whole


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name.partition(".")[0])
def test_committed_results_fit_their_plan(file: Path) -> None:
    about, records = results_archive._read(file)
    plan = planned(about)
    assert fitting(plan, about, records) == about["cells"] == len(plan.cells)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name.partition(".")[0])
def test_committed_results_fit_after_a_setting_was_added(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One setting joins the protocol and the config of every method, each at its default."""
    about, records = results_archive._read(file)
    wider = dataclasses.make_dataclass("Wider", [("later", int, digest.added(3))], bases=(Protocol,), frozen=True)
    world = WORLDS.get("pocket")
    values = {f.name: getattr(world.protocol, f.name) for f in dataclasses.fields(world.protocol)}
    monkeypatch.setattr(world, "protocol", wider(**values))
    for name in METHODS.names():
        method = METHODS.get(name)
        config = dataclasses.make_dataclass(
            "Config", [("later", float, digest.added(0.5))], bases=(method.Config,), frozen=True
        )
        monkeypatch.setattr(method, "Config", config)
    plan = planned(about)
    assert plan.protocol.later == 3  # type: ignore[attr-defined]
    assert fitting(plan, about, records) == about["cells"]
    changed = dataclasses.replace(plan, protocol=dataclasses.replace(plan.protocol, later=4))  # type: ignore[call-arg]
    assert fitting(changed, about, records) == 0
