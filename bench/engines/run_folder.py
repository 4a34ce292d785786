"""What the shell and the workers of a run that is spread over hosts tell each other: files in a folder of its store."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bench.core import digest
from bench.core.config import RunConfig
from bench.core.lock import BEAT, STALE, elsewhere, held
from bench.engines.base import CannotStart, WorkOutcome

MACHINE, STATE, RESULTS, LOGS, WATCHED = "machine.json", "state.json", "results", "logs", "watched"


def place(out: Path) -> Path:
    """Where the runs lie whose boards are in `out`."""
    return out / ".store" / "runs"


def machines(out: Path) -> list[dict[str, Any]]:
    """The kinds of machine that runs into `out` were spread over, each once."""
    found = [json.loads(file.read_text()) for file in sorted(place(out).glob(f"*/{MACHINE}"))]
    return [one for i, one in enumerate(found) if one not in found[:i]]


class OtherMachine(RuntimeError):
    """A worker on another kind of machine than the run began on; its results would not compare."""


class RunFolder:
    """The folder of one run: of one command, whatever engine it names.

    Workers write `results/UNIT.json` and `machine.json`, the shell `state.json`; each file appears whole.

    Args:
        run: its `out` must be a folder that every worker sees under the same path.
    """

    def __init__(self, run: RunConfig) -> None:
        run = run.elsewhere()
        self.id = digest.of_json(run.identity)[:8]
        self.path = place(run.out) / f"{run.suite}-{run.world}-{self.id}"

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Within the block this shell is the one that watches the run. Raises CannotStart where another does."""
        try:
            file = self.path / WATCHED  # of a shell on another host only time tells whether it lives
            with held(file, wait=STALE + BEAT if elsewhere(file) else 1):
                yield
        except TimeoutError as error:
            raise CannotStart(f"another shell watches this run: {error}") from None

    def clear(self, machine: bool) -> None:
        """Forget all of an earlier run but its logs, and its kind of `machine` only if that is said."""
        shutil.rmtree(self.path / RESULTS, ignore_errors=True)
        for name in (STATE, *([MACHINE] if machine else [])):
            (self.path / name).unlink(missing_ok=True)

    def claim(self, machine: Mapping[str, Any]) -> None:
        """Say what kind of machine this worker is on. Raises OtherMachine where the run has another."""
        known = self.machine()
        if known is None:
            self._write(MACHINE, machine, once=True)
            known = self.machine()
        if known != digest.plain(dict(machine)):
            was = known or {}
            raise OtherMachine(
                f"this worker is on {machine['device']}, {machine['dtype']}; the run's results are from "
                f"{was.get('device')}, {was.get('dtype')}, or from other versions of libraries, and would not compare: "
                "ask for one kind of node, or name another --out"
            )

    def machine(self) -> dict[str, Any] | None:
        """The kind of machine that the run's workers are on; None before the first has begun."""
        return self._read(MACHINE)

    def put(self, unit: int, outcome: WorkOutcome) -> None:
        """Say that a unit is done, and what came of it."""
        self._write(f"{RESULTS}/{unit}.json", outcome.to_json())

    def has(self, unit: int) -> bool:
        """Whether something came of a unit already."""
        return (self.path / RESULTS / f"{unit}.json").exists()

    def take(self, unit: int) -> None:
        """Forget what came of a unit: it is tried again."""
        (self.path / RESULTS / f"{unit}.json").unlink(missing_ok=True)

    def news(self, known: Collection[int]) -> dict[int, WorkOutcome]:
        """What has come of units beyond those `known`, by unit."""
        try:
            names = [file.name for file in os.scandir(self.path / RESULTS) if not file.name.startswith(".")]
        except FileNotFoundError:
            return {}
        there = sorted({int(name.partition(".")[0]) for name in names} - {*known})
        found = {unit: self._read(f"{RESULTS}/{unit}.json") for unit in there}
        return {unit: WorkOutcome.from_json(facts) for unit, facts in found.items() if facts is not None}

    def state(self) -> dict[str, Any] | None:
        """What the shell that began the run noted of it; None where none has."""
        return self._read(STATE)

    def note(self, state: Mapping[str, Any]) -> None:
        """Note what a shell that watches the run later has to know."""
        self._write(STATE, state)

    @property
    def logs(self) -> Path:
        """Folder of the workers' logs."""
        return self.path / LOGS

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            return json.loads((self.path / name).read_text())
        except FileNotFoundError:
            return None

    def _write(self, name: str, value: Mapping[str, Any], once: bool = False) -> None:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, work = tempfile.mkstemp(prefix=".new-", dir=file.parent)
        try:
            with os.fdopen(handle, "w") as stream:
                json.dump(digest.plain(dict(value)), stream)
            if once:
                with suppress(FileExistsError):
                    os.link(work, file)  # fails where it is there, on network file systems too
            else:
                os.replace(work, file)
        finally:
            Path(work).unlink(missing_ok=True)
