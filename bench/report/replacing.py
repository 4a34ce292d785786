"""Stops a run that would replace a board of another configuration, unless the user gave --overwrite."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.board import csv_files
from bench.cells.executor import Executor
from bench.core import digest
from bench.core.filenames import without_folders
from bench.engines.base import CannotStart
from bench.plan.board_name import board_name

SHOWN = 5  # maximum number of differences in a message
LONGEST_VALUE = 60  # maximum number of characters of a value in a message
METRIC = "raised.metric "  # prefix of the names of metrics' versions in a description
UNSET = "unset"  # text for a missing value


@dataclass(frozen=True)
class Difference:
    """A setting whose value in the board differs from its value in the run. A missing value is UNSET."""

    setting: str
    there: str
    here: str

    def __str__(self) -> str:
        return f"{self.setting}: {self.there} there, {self.here} here"


class OtherBoard(CannotStart, ValueError):
    """The folder has a board of the same name with other settings."""

    def __init__(self, file: Path, differences: list[Difference]) -> None:
        self.file, self.differences = file, differences
        lines = [f"{file} is a board of another configuration, and this run would replace it."]
        lines += [f"  {difference}" for difference in differences[:SHOWN]]
        lines += [f"  and {len(differences) - SHOWN} more differences"] if len(differences) > SHOWN else []
        super().__init__("\n".join([*lines, "Give --overwrite to replace it, or another folder with --out."]))


def require_same_configuration(executor: Executor, is_machine_known: bool = True) -> None:
    """Raise OtherBoard if the run would replace a board of another configuration.

    Methods, training seeds and metrics are not part of the configuration. A board may be replaced if it has no finished
    cell, or if the run has --overwrite.

    Args:
        executor: executor of the run on the machine that computes the cells.
        is_machine_known: whether that machine is known. If it is not known, its device and its library versions are not
            compared.
    """
    plan = executor.plan
    if plan.run.overwrite:
        return
    file = plan.run.out / f"{board_name(plan)}.csv"
    machine = () if is_machine_known else tuple(executor.context.machine)
    settings = {cell.method: digest.plain(cell.config) for cell in plan.cells}
    found = [*differences(file, executor.context.description, settings, plan.metrics)]
    if found := [one for one in found if one.setting.partition(".")[0] not in machine]:
        raise OtherBoard(file, found)


def differences(
    file: Path, description: Mapping[str, Any], settings: Mapping[str, Mapping[str, Any]], metrics: tuple[str, ...]
) -> Iterator[Difference]:
    """The settings that differ between a board and a run.

    Args:
        file: path of the board's table of methods, STEM.csv. If the board has no table of cells, or if this table has
            no finished cell, the result is empty.
        description: all facts that the run's figures depend on besides the method.
        settings: method -> the settings of the method in the run. Other methods of the board are not compared.
        metrics: names of the run's metrics. Versions of metrics are compared only if the board has these metrics too.
    """
    table = file.with_name(f"{file.stem}-cells.csv")
    if not table.is_file():
        return
    cells = csv_files.read(table)
    cells = cells[cells["status"] == "ok"]
    if cells.empty:  # the run would not replace any figure
        return
    try:
        there = flat(json.loads(file.with_suffix(".json").read_text(encoding="utf-8")))
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
    """Dotted name -> value, for all leaves of nested objects.

    A list of objects is treated as an object if each of them has a "name". These names are then the keys.
    """
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
