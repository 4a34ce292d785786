"""The command `pack`, which writes finished results into one file, and the flag `--results`, which reads the file."""

from __future__ import annotations

import argparse
import io
import json
import lzma
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.cells import legacy
from bench.cells.artifacts import Artifacts, Context
from bench.cells.outcomes import ACCURACY, Outcomes
from bench.commands import arguments
from bench.core import digest
from bench.core.store import RECORD, Store, output_files
from bench.core.text.terminal import say
from bench.plan.plan import Plan, resolve

TEXT = """\
Write the finished results of a run into one file for other people. The file has
figures and costs, but neither weights nor images. `python run_bench.py --results
FILE` reads the file. Its cells then count as finished, so only your own method is
computed when you compare it with them.

The results fit only the version of Lethe, the settings and the kind of machine with
which they were computed. A cell that does not fit is computed again. If the run is
not finished, the file has the finished cells, and the exit code is 1."""
EPILOG = """\
example:
  python run_bench.py pack --methods all --suite multi --seeds 2 \\
      --to multi-pocket.results.tar.xz"""
KINDS = ("deltas", "snapshots", "scores")  # kinds of store entries that make up a result
ABOUT = "about.json"
LARGEST = 2**30  # bytes of the content of a file of results; the committed ones have at most some ten million


def pack(plan: Plan, file: Path) -> tuple[int, dict[str, Any]]:
    """Write the records of the plan's finished cells to `file`.

    Returns the number of finished cells and the description that the file contains. Equal results give byte-equal
    files. Raises ValueError if no cell is finished.
    """
    from bench.report.write import collect  # slow to import, and `unpack` does not need it

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
        raise ValueError(f"{store.root} has no finished cell of this run, so there are no results to write")
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
    """Import the results in `file` into the plan's store. Returns a sentence with the number of cells that fit.

    Raises FileNotFoundError, and ValueError if `pack` did not write the file.
    """
    about, records = _read(file)
    artifacts = Artifacts(Context(plan))
    for name, record in records.items():
        artifacts.store.import_record(
            name.partition("/")[0], record
        )  # all are imported, because they may fit the nodes of a cluster
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
    """The reason why results with the description `about` do not fit the plan."""
    theirs, ours = _flat(about["machine"]), _flat(digest.plain(dict(machine)))
    other = [f"{n} {theirs.get(n)}, here {ours.get(n)}" for n in {**theirs, **ours} if theirs.get(n) != ours.get(n)]
    if other:
        return f"they were made with {'; '.join(other)}"
    return f"they are of `{about['command']}`, or of another version of Lethe; this is `{plan.run.shared_command}`"


def _place(store: Store, kind: str, key: Mapping[str, Any]) -> str:
    """The folder of a store entry, in the store and in the file."""
    return f"{kind}/{store.path(kind, key).name}"


def _flat(machine: Mapping[str, Any]) -> dict[str, str]:
    return {k: v for k, v in machine.items() if k != "versions"} | dict(machine["versions"])


def _write(file: Path, files: Mapping[str, Any]) -> None:
    """Write a compressed tar file with `files` (name -> content, stored as JSON). It is never half written.

    Raises CannotWrite.
    """
    with (
        output_files.replacing(file) as work,
        work.open("wb") as stream,
        tarfile.open(fileobj=stream, mode="w:xz", preset=9) as tar,
    ):
        for name, content in files.items():
            data = json.dumps(content, allow_nan=False).encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def _read(file: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The description and the records (name -> record) in a file that `_write` wrote."""
    if not file.is_file():
        there = "a folder, not a file that the command pack wrote" if file.is_dir() else "no such file"
        raise FileNotFoundError(f"--results {file}: {there}")
    try:
        found = dict(_members(file))
        about = found.pop(ABOUT)
        for name, record in found.items():
            kind, key, _ = name.split("/")
            if kind not in KINDS or key != digest.of_json(record["key"])[:16] or {"facts", "content"} - set(record):
                raise ValueError(f"the content of {name} does not match its name")
        if not {"command", "cells", "machine", "metrics", "curve", "fingerprint"} <= set(about):
            raise ValueError(f"{ABOUT} lacks a field")
    except OSError as error:
        raise ValueError(f"--results {file}: can't be read ({error})") from None
    except (tarfile.TarError, lzma.LZMAError, EOFError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"--results {file}: not a whole file of results ({error}); the command pack writes them"
        ) from None
    return about, found


def _members(file: Path) -> Iterator[tuple[str, Any]]:
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ)  # it verifies the checksums; a stream of tarfile would not
    whole = decompressor.decompress(file.read_bytes(), max_length=LARGEST)
    if not decompressor.eof:
        raise ValueError(f"it is cut short, or its content has more than {LARGEST} bytes")
    with tarfile.open(fileobj=io.BytesIO(whole), mode="r:") as tar:
        for member in tar:
            if (stream := tar.extractfile(member)) is None:
                raise ValueError(f"{member.name} is not a file")
            yield member.name, json.loads(stream.read())


def add_flags(p: argparse.ArgumentParser) -> None:
    """Add the flags of `pack`: those of a run, and the file to write."""
    p.add_argument(
        "--to", type=arguments.typed(Path), required=True, metavar="FILE", help="the file to write: NAME.results.tar.xz"
    )
    arguments.add_run(p)


def run(args: argparse.Namespace, words: Sequence[str], console: Console) -> int:
    """Write the file. Returns 0 if it has all cells of the run, else 1."""
    with arguments.refusing():
        arguments.require_writable_file(args.to, "--to", "multi-pocket.results.tar.xz")
        plan = resolve(arguments.run_config(args))
    try:
        cells, about = pack(plan, args.to)
    except ValueError as error:
        raise arguments.CannotRun(str(error)) from error
    said = f"written: {args.to}, {cells} of {about['of']} cells, {args.to.stat().st_size / 1e3:.0f} kB"
    say(console, said)
    return 0 if cells == about["of"] else 1
