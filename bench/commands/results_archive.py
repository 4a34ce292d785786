"""The command `pack`, and the flag `--results` that reads what it writes: finished results as one file."""

from __future__ import annotations

import argparse
import io
import json
import lzma
import os
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.cells import legacy
from bench.cells.artifacts import Artifacts, Context
from bench.cells.outcomes import ACCURACY, Outcomes
from bench.commands import arguments
from bench.core import digest
from bench.core.store import RECORD, Store
from bench.plan.plan import Plan, resolve

TEXT = """\
Write the finished results of a run into one file, to hand on: figures and what
they cost, without weights and pictures. `python run_bench.py --results FILE` reads
the file: cells in it count as finished, so that a method of your own is compared
with all of them at the price of that method.

The results fit the version of Lethe, the settings and the kind of machine that
they were made with, and no other. A cell that does not fit is computed as if it
were not in the file. If the run is not finished, the file has the finished cells,
and the exit code is 1."""
EPILOG = """\
example:
  python run_bench.py pack --methods all --suite multi --seeds 2 \\
      --to multi-pocket.results.tar.xz"""
KINDS = ("deltas", "snapshots", "scores")  # of stages that a result is read from
ABOUT = "about.json"


def pack(plan: Plan, file: Path) -> tuple[int, dict[str, Any]]:
    """Write what the store has of the plan's finished cells to `file`, and return how many they are, and `about` them.

    The same results make the same file, byte for byte. Raises ValueError where no cell is finished.
    """
    from bench.report.write import collect  # with what boards are made of: nothing that reading takes

    executor, _ = collect(plan)
    outcomes, store, cells = executor.outcomes, executor.artifacts.store, 0
    files: dict[str, dict[str, Any]] = {}
    for cell in plan.cells:
        entries = outcomes.entries(cell)
        records = [record for kind, key in entries if (record := store.record(kind, key))]
        if entries and len(records) == len(entries):
            cells += 1
            names = [f"{_place(store, kind, key)}/{RECORD}" for kind, key in entries]
            files |= dict(zip(names, records, strict=True))
    if not cells:
        raise ValueError(f"no cell of this run is finished in {store.root}: nothing to hand on")
    about = {
        "command": plan.run.shared_command,
        "cells": cells,
        "of": len(plan.cells),
        "metrics": plan.metrics,
        "curve": plan.curve,
    }
    about |= {"machine": executor.context.machine, "fingerprint": outcomes.fingerprint}
    _write(file, {ABOUT: digest.plain(about), **dict(sorted(files.items()))})
    return cells, about


def unpack(plan: Plan, file: Path) -> str:
    """Take the results in `file` over into the plan's store. Returns what they are, and how many of its cells they fit.

    Raises FileNotFoundError, and ValueError for a file that `pack` did not write.
    """
    about, records = _read(file)
    artifacts = Artifacts(Context(plan))
    for name, record in records.items():
        artifacts.store.import_record(name.partition("/")[0], record)  # nodes of a cluster may be what they fit
    renamed = legacy.adopt(plan)
    names = {renamed.get(name.rpartition("/")[0], name.rpartition("/")[0]) for name in records}
    outcomes = Outcomes(artifacts)
    made = [cell for cell in plan.cells if _place(artifacts.store, "deltas", artifacts.weights.key(cell)) in names]
    if not made:
        why = _unlike(about, plan, artifacts.context.machine)
        return f"{file}: none of its {about['cells']} cells fits this run here: {why}"
    fit = 0
    for cell in made:
        if weights := artifacts.store.get("deltas", artifacts.weights.key(cell), verify=False):
            fit += _place(artifacts.store, "scores", outcomes.score_key(cell, weights, ACCURACY)) in names
    if not fit:
        return (
            f"{file}: {len(made)} of its cells are of this run, but were measured otherwise (fingerprint "
            f"{about['fingerprint']}, here {outcomes.fingerprint}): they are computed again"
        )
    lacking = [name for name in plan.metrics if name not in about["metrics"]]
    lacking += [f"a curve of {plan.curve}"] if plan.curve > 1 and plan.curve != about["curve"] else []
    rest = f", without {', '.join(lacking)}: for that they are computed again" if lacking else ""
    return f"{file}: has {fit} of the {len(plan.cells)} cells of this run{rest}"


def _unlike(about: Mapping[str, Any], plan: Plan, machine: Mapping[str, Any]) -> str:
    """Why results that are `about` something else don't fit."""
    theirs, ours = _flat(about["machine"]), _flat(digest.plain(dict(machine)))
    other = [f"{n} {theirs.get(n)}, here {ours.get(n)}" for n in {**theirs, **ours} if theirs.get(n) != ours.get(n)]
    if other:
        return f"they were made with {'; '.join(other)}"
    return f"they are of `{about['command']}`, or of another version of Lethe; this is `{plan.run.shared_command}`"


def _place(store: Store, kind: str, key: Mapping[str, Any]) -> str:
    """A stage's folder, in the store and in the file."""
    return f"{kind}/{store.path(kind, key).name}"


def _flat(machine: Mapping[str, Any]) -> dict[str, str]:
    return {k: v for k, v in machine.items() if k != "versions"} | dict(machine["versions"])


def _write(file: Path, files: Mapping[str, Any]) -> None:
    """A tar file, compressed, that holds nothing but `files`, by name, as JSON. It appears whole."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, work = tempfile.mkstemp(prefix=".new-", dir=file.parent)
    try:
        with os.fdopen(handle, "wb") as stream, tarfile.open(fileobj=stream, mode="w:xz", preset=9) as tar:
            for name, content in files.items():
                data = json.dumps(content, allow_nan=False).encode()
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        Path(work).chmod(0o644)
        Path(work).replace(file)
    finally:
        Path(work).unlink(missing_ok=True)


def _read(file: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """What `_write` wrote: what it is about, and records by name."""
    if not file.is_file():
        there = "a folder, not a file that the command pack wrote" if file.is_dir() else "no such file"
        raise FileNotFoundError(f"--results {file}: {there}")
    try:
        found = dict(_members(file))
        about = found.pop(ABOUT)
        for name, record in found.items():
            kind, key, _ = name.split("/")
            if kind not in KINDS or key != digest.of_json(record["key"])[:16] or {"facts", "content"} - set(record):
                raise ValueError(f"{name} is not what its name says")
        if not {"command", "cells", "machine", "metrics", "curve", "fingerprint"} <= set(about):
            raise ValueError(f"{ABOUT} lacks something")
    except OSError as error:
        raise ValueError(f"--results {file}: can't be read ({error})") from None
    except (tarfile.TarError, lzma.LZMAError, EOFError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"--results {file}: not a whole file of results ({error}); the command pack writes them"
        ) from None
    return about, found


def _members(file: Path) -> Iterator[tuple[str, Any]]:
    whole = lzma.decompress(file.read_bytes())  # with its checksums: a tar file that is read on the way may end early
    with tarfile.open(fileobj=io.BytesIO(whole), mode="r:") as tar:
        for member in tar:
            if (stream := tar.extractfile(member)) is None:
                raise ValueError(f"{member.name} is no file")
            yield member.name, json.loads(stream.read())


def add_flags(p: argparse.ArgumentParser) -> None:
    """The flags of `pack`: those of a run, and the file to write."""
    p.add_argument("--to", type=Path, required=True, metavar="FILE", help="the file to write: NAME.results.tar.xz")
    arguments.add_run(p)


def run(args: argparse.Namespace, words: Sequence[str], console: Console) -> int:
    """Write the file: 0 with all of the run's cells, 1 with some of them."""
    with arguments.refusing():
        if args.to.is_dir():
            raise ValueError(f"--to {args.to}: a folder is there; name a file, as multi-pocket.results.tar.xz")
        cells, about = pack(resolve(arguments.run_config(args)), args.to)
    said = f"written: {args.to}, {cells} of {about['of']} cells, {args.to.stat().st_size / 1e3:.0f} kB"
    console.print(said, highlight=False, soft_wrap=True)
    return 0 if cells == about["of"] else 1
