"""What a run would write over: a board of another configuration is replaced only where the user asks for that."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bench.cells.executor import Executor
from bench.core import digest
from bench.core.filenames import without_folders
from bench.engines.base import CannotStart
from bench.plan.board_name import board_name

SHOWN = 5  # differences that a message names
LONGEST_VALUE = 60  # letters of a value in a message
METRIC = "raised.metric "  # of the versions in a description, those of metrics begin so
UNSET = "unset"


@dataclass(frozen=True)
class Difference:
    """One setting that a board has and a run has otherwise; a value that is missing is UNSET."""

    setting: str
    there: str
    here: str

    def __str__(self) -> str:
        return f"{self.setting}: {self.there} there, {self.here} here"


class OtherBoard(CannotStart, ValueError):
    """A board of the same name that was made with other settings."""

    def __init__(self, file: Path, differences: list[Difference]) -> None:
        self.file, self.differences = file, differences
        lines = [f"{file} is a board of another configuration, and this run would replace it."]
        lines += [f"  {difference}" for difference in differences[:SHOWN]]
        lines += [f"  and {len(differences) - SHOWN} more differences"] if len(differences) > SHOWN else []
        super().__init__("\n".join([*lines, "Give --overwrite to replace it, or another folder with --out."]))


def require_same_configuration(executor: Executor, is_machine_known: bool = True) -> None:
    """Raise OtherBoard if the run would write over a board that was made with other settings.

    A board with other methods, seeds or metrics has the same configuration, and so has one without a finished cell.

    Args:
        executor: of the run. It sees the store as the machine does that computes the cells.
        is_machine_known: False where the cells are computed on a machine that is not known yet; then device and
            versions of libraries are not compared.
    """
    plan = executor.plan
    if plan.run.overwrite:
        return
    file = plan.run.out / f"{board_name(plan)}.csv"
    machine = () if is_machine_known else tuple(executor.context.machine)
    settings = {cell.method: digest.plain(cell.config) for cell in plan.cells}
    found = [*differences(file, executor.outcomes.description, settings, plan.metrics)]
    if found := [one for one in found if one.setting.partition(".")[0] not in machine]:
        raise OtherBoard(file, found)


def differences(
    file: Path, description: Mapping[str, Any], settings: Mapping[str, Mapping[str, Any]], metrics: tuple[str, ...]
) -> Iterator[Difference]:
    """How a board differs from a run.

    Args:
        file: the board's table of methods, STEM.csv; nothing differs where its table of cells is not there.
        description: what the run's figures depend on besides the method.
        settings: method -> its settings in the run.
        metrics: of the run.
    """
    table = file.with_name(f"{file.stem}-cells.csv")
    if not table.is_file():
        return
    cells = pd.read_csv(table)
    cells = cells[cells["status"] == "ok"]
    if cells.empty:  # nothing was measured, and nothing is lost
        return
    try:
        there = flat(json.loads(file.with_suffix(".json").read_text()))
    except (OSError, ValueError):
        yield Difference(f"{file.stem}.json", "no description that can be read", "a description")
        return
    here = flat(digest.plain(dict(description)))
    compared = {f"{METRIC}{name}" for name in metrics if name in cells}
    apart = {name for name in (*there, *here) if name.startswith(METRIC)} - compared
    yield from _unlike("", _without(there, apart), _without(here, apart))
    for method, rows in cells.groupby("method", sort=False):
        for config in dict.fromkeys(rows["config"]) if method in settings else ():
            mine = {k: without_folders(v) if isinstance(v, str) else v for k, v in settings[str(method)].items()}
            yield from _unlike(f"{method}.", flat(json.loads(config)), flat(mine))


def flat(value: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """The leaves of nested objects by dotted name; a list of objects with a "name" each counts as an object."""
    found: dict[str, Any] = {}
    for name, entry in value.items():
        if isinstance(entry, list) and entry and all(isinstance(one, dict) and "name" in one for one in entry):
            entry = {one["name"]: one for one in entry}
        found |= flat(entry, f"{before}{name}.") if isinstance(entry, dict) else {f"{before}{name}": entry}
    return found


def _without(values: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def _unlike(before: str, there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[Difference]:
    for name in dict.fromkeys((*there, *here)):
        if name not in there or name not in here or there[name] != here[name]:
            yield Difference(before + name, *(_said(values, name) for values in (there, here)))


def _said(values: Mapping[str, Any], name: str) -> str:
    if name not in values:
        return UNSET
    text = json.dumps(values[name], ensure_ascii=False)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 3]}..."
