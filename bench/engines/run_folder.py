"""The folder through which the command of a run and its workers on other hosts exchange files."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.core import digest
from bench.core.config import RunConfig
from bench.core.filenames import stem
from bench.core.lock import BEAT, STALE, elsewhere, held
from bench.core.store import leftovers
from bench.core.store.entries import CHECK, DAMAGE
from bench.engines.base import CannotStart, WorkOutcome

log = logging.getLogger(__name__)

OUTCOME = re.compile(r"(\d+)\.json$")  # name of the file of a work item's outcome
OUTCOME_FIELDS = {"result", "refused_by", "reason"}
MACHINE, STATE, RESULTS, LOGS, WATCHED = "machine.json", "state.json", "results", "logs", "watched"
FIELDS = {MACHINE: {"device", "dtype", "versions"}, STATE: {"signed"}}


def place(out: Path) -> Path:
    """The folder with the run folders of all runs into `out`."""
    return out / ".store" / "runs"


def machines(out: Path) -> list[dict[str, Any]]:
    """The different kinds of machine that workers of runs into `out` used."""
    found = [machine for file in sorted(place(out).glob(f"*/{MACHINE}")) if (machine := _read(file))]
    return [one for i, one in enumerate(found) if one not in found[:i]]


class OtherMachine(RuntimeError):
    """A worker is on another kind of machine than the run, so its results would not be comparable."""


class RunFolder:
    """The folder of one run. It does not depend on the engine.

    Workers write `results/ITEM.json` and `machine.json`. The command writes `state.json`. Each file is written in one
    step, so that no reader sees an incomplete file.

    Args:
        run: the run. Every worker must see the folder `out` under the same path.
    """

    def __init__(self, run: RunConfig) -> None:
        run = run.elsewhere()
        self.id = digest.of_json(run.identity)[:8]
        self.path = place(run.out) / f"{stem(f'{run.suite}-{run.world_name}')}-{self.id}"

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watch the run alone within the block. Raises CannotStart if another process watches it."""
        try:
            file = self.path / WATCHED  # only time tells whether a command on another host still runs
            with held(file, wait=STALE + BEAT if elsewhere(file) else 1):
                yield
        except TimeoutError as error:
            raise CannotStart(f"another command watches this run: {error}") from None

    def clear(self, machine: bool) -> None:
        """Remove the files of an earlier run except its logs. `machine`: whether to remove its kind of machine too."""
        shutil.rmtree(self.path / RESULTS, ignore_errors=True)
        leftovers.sweep(self.path)
        for name in (STATE, *([MACHINE] if machine else [])):
            (self.path / name).unlink(missing_ok=True)

    def claim(self, machine: Mapping[str, Any]) -> None:
        """Record the kind of machine of this worker. Raises OtherMachine if the run has another kind of machine."""
        known = self.machine()
        if known is None:
            self._write(MACHINE, machine, once=True)
            known = self.machine()
        if known != digest.plain(dict(machine)):
            was = known or {}
            raise OtherMachine(
                f"this worker is on {machine['device']}, {machine['dtype']}; the run's results are from "
                f"{was.get('device')}, {was.get('dtype')}, or from other versions of libraries. The results would "
                "not be comparable: request one kind of node, or use another --out"
            )

    def machine(self) -> dict[str, Any] | None:
        """The kind of machine of the run's workers; None before the first worker has started."""
        return self._read(MACHINE)

    def put(self, unit: int, outcome: WorkOutcome) -> None:
        """Write the outcome of a work item that is done."""
        self._write(f"{RESULTS}/{unit}.json", outcome.to_json())

    def has(self, unit: int) -> bool:
        """Whether the outcome of a work item is there."""
        return (self.path / RESULTS / f"{unit}.json").exists()

    def take(self, unit: int) -> None:
        """Remove the outcome of a work item, which is tried again."""
        (self.path / RESULTS / f"{unit}.json").unlink(missing_ok=True)

    def news(self, known: Collection[int]) -> dict[int, WorkOutcome]:
        """Index of a work item -> its outcome, for outcomes that are not `known` yet."""
        try:
            names = [match.group(1) for file in os.scandir(self.path / RESULTS) if (match := OUTCOME.match(file.name))]
        except FileNotFoundError:
            return {}
        there = sorted({*map(int, names)} - {*known})
        found = {unit: self._read(f"{RESULTS}/{unit}.json") for unit in there}
        return {unit: WorkOutcome.from_json(facts) for unit, facts in found.items() if facts is not None}

    def state(self) -> dict[str, Any] | None:
        """The state that the command which started the run wrote; None if there is no such file."""
        return self._read(STATE)

    def note(self, state: Mapping[str, Any]) -> None:
        """Write the state that a command needs which attaches to the run later."""
        self._write(STATE, state)

    @property
    def logs(self) -> Path:
        """Folder of the workers' logs."""
        return self.path / LOGS

    def _read(self, name: str) -> dict[str, Any] | None:
        return _read(self.path / name)

    def _write(self, name: str, value: Mapping[str, Any], once: bool = False) -> None:
        file, facts = self.path / name, digest.plain(dict(value))
        work = leftovers.temporary(file.parent)
        try:
            work.write_text(json.dumps({**facts, CHECK: _check(file, facts)}))
            if not once:
                os.replace(work, file)
                return
            with held(file.with_suffix(".lock")):  # not every file system can make a link that fails if the file exists
                if not file.exists():
                    os.replace(work, file)
        finally:
            work.unlink(missing_ok=True)


def _read(file: Path) -> dict[str, Any] | None:
    """The content of a file that `RunFolder` wrote; None if it does not exist. A damaged file is removed."""
    try:
        facts = json.loads(file.read_text())
        if not isinstance(facts, dict) or not FIELDS.get(file.name, OUTCOME_FIELDS) <= facts.keys():
            raise ValueError("it lacks a field")
        if CHECK in facts and facts.pop(CHECK) != _check(file, facts):  # files of earlier releases have no digest
            raise ValueError("its content does not match its digest")
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in DAMAGE:
            raise
        log.warning("removed the damaged file %s (%s); a worker writes it again", file, error)
        leftovers.remove(file)
        return None
    return facts


def _check(file: Path, facts: Mapping[str, Any]) -> str:
    """A digest that no other file has, so that a file under another name is found too."""
    return digest.of_json([file.name, facts])
