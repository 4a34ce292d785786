"""The command `tune`: searches the learning rate of every method, on targets that are on no board."""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from statistics import harmonic_mean
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.board import csv_files, tables
from bench.cells.executor import Executor
from bench.commands import arguments
from bench.core.config import RunConfig
from bench.core.filenames import stem
from bench.core.results import CellResult
from bench.core.store import output_files
from bench.core.text.shell import joined
from bench.core.text.terminal import Plain, say
from bench.engines import Engine
from bench.engines.local import Local
from bench.plan import plugins
from bench.plan.names import ALL, method_names
from bench.plan.plan import resolve
from methods import METHODS, REFERENCES

ABOUT = """\
Search the learning rate of every method that trains in the same way, on targets that are on no
board. Every method gets the same learning rates, tasks, seed and rules. H is the
harmonic mean of UA, NRA and ORA. Among the rates whose H is within one point of the
largest H, the rate with the least drift is the best. If the best rate of a method is
the smallest or the largest that it tried, half or double of the rate is tried too,
up to twice.

The store keeps all cells, so the search can be resumed. The command writes
OUT/tuning-WORLD.csv. It does not change the presets of the methods."""
EPILOG = "example:\n  python run_bench.py tune --methods all"
RATES = (1e-4, 2e-4, 4e-4)
FURTHER = 2  # how often the rates of a method may be extended
METRICS = ("ua", "nra", "ora", "twin", "drift")
CLOSE = 1.0  # points of H; drift decides between rates that are this close to the largest H
Tell = Callable[[str], object]
SHOWN = ("method", "lr", "H", "ua", "nra", "ora", "twin", "drift", "seconds", "status", "best")


def search(methods: Sequence[str], rates: Sequence[float], base: RunConfig, engine: Engine, tell: Tell) -> pd.DataFrame:
    """One row for each method and learning rate: means over the tasks of the suite `search`, H, and `best`."""
    found = pd.concat([tried(methods, rate, base, engine, tell) for rate in rates], ignore_index=True)
    for _ in range(FURTHER):
        wanted = further(chosen(found))
        new = [tried(names, rate, base, engine, tell) for rate, names in wanted.items()]
        found = pd.concat([found, *new], ignore_index=True)
    return chosen(found)


def tried(methods: Sequence[str], rate: float, base: RunConfig, engine: Engine, tell: Tell) -> pd.DataFrame:
    """One row for each method: its means over the tasks at one learning rate."""
    rates = {name: {"lr": repr(rate)} for name in methods}
    plan = resolve(dataclasses.replace(base, methods=tuple(methods), overrides=rates))
    results: dict[int, CellResult] = {}
    executor = Executor(plan)
    executor.check(references=not engine.detachable)
    for index, result in engine.run(executor, lambda status: None):
        results[index] = result
        tell(f"lr {rate:g} [{len(results)}/{len(plan.cells)}] {plan.cells[index].name}: {result.status}")
    board = tables.board_frame([results[i] for i in sorted(results)], plan.metrics, "full")
    return board[~board["method"].isin(REFERENCES)].assign(lr=rate)


def rate(text: str) -> float:
    """The learning rate in `text`. Raises ValueError unless it is a finite number of more than 0."""
    if not 0 < (value := float(text)) < math.inf:
        raise ValueError(f"must be a finite number of more than 0, not {text}")
    return value


def further(found: pd.DataFrame) -> dict[float, list[str]]:
    """Learning rate -> the methods that shall try it next.

    It is half of a method's best rate if the best is the smallest that the method tried, or double if it is the
    largest.
    """
    wanted: dict[float, list[str]] = {}
    for row in found[found["best"] == "yes"].to_dict("records"):
        rates = found.loc[found["method"] == row["method"], "lr"]
        for end, next_rate in ((rates.min(), row["lr"] / 2), (rates.max(), row["lr"] * 2)):
            if row["lr"] == end:
                wanted.setdefault(next_rate, []).append(row["method"])
    return wanted


def chosen(found: pd.DataFrame) -> pd.DataFrame:
    """`found` with the columns H and `best`. `best` is "yes" in one row per method. H is NaN if a cell failed."""
    summaries = pd.Series([summary(row) for row in found.to_dict("records")], found.index, dtype=float)
    found = found.assign(H=summaries, best="")
    for _, rows in found[found["H"].notna()].groupby("method", sort=False):
        near = rows[rows["H"] >= rows["H"].max() - CLOSE]
        found.loc[near["drift"].idxmin(), "best"] = "yes"
    place = {name: i for i, name in enumerate(dict.fromkeys(found["method"]))}
    ranked = found.assign(place=found["method"].map(place)).sort_values(["place", "lr"]).drop(columns="place")
    return ranked[[*SHOWN, *(name for name in ranked if name not in SHOWN)]]


def summary(row: Mapping[Any, Any]) -> float | None:
    """H, the harmonic mean of UA, NRA and ORA, 0 to 100; None if one of the three is missing."""
    values = [row[name] for name in ("ua", "nra", "ora")]
    return None if any(pd.isna(value) for value in values) else harmonic_mean(values)


def show(found: pd.DataFrame, title: str) -> Table:
    """The table of the search for a terminal."""
    table = Table(title=Text(title))
    for name in SHOWN:
        words = name in ("method", "status", "best")
        table.add_column(name, justify="left" if words else "right", overflow="fold")
    for row in found.to_dict("records"):
        figures = [f"{row[name]:.{3 if name == 'drift' else 1}f}" if pd.notna(row[name]) else "" for name in SHOWN[2:9]]
        cells = (row["method"], f"{row['lr']:g}", *figures, row["status"], row["best"])
        table.add_row(*map(Plain, cells))
    return table


def add_flags(p: argparse.ArgumentParser) -> None:
    """Add the flags of `tune`."""
    p.add_argument(
        "--lr", nargs="+", type=arguments.typed(rate), default=list(RATES), metavar="RATE", help="default: %(default)s"
    )
    arguments.add_flags(p, RunConfig, ("methods", "world", "plugins", "out"), {"methods": (ALL,)})
    arguments.add_flags(p, arguments.Spread, ("workers",))


def run(args: argparse.Namespace, words: Sequence[str], console: Console) -> int:
    """Search, show the result and write it. Returns 0, or 130 after Ctrl-C."""
    with arguments.refusing():
        args.methods = getattr(args, "methods", [ALL])
        base = dataclasses.replace(arguments.run_config(args), suite="search", metrics=METRICS)
        arguments.require_writable(base.out)
        plugins.load(base.plugins)
        if len(set(args.lr)) < len(args.lr):
            raise ValueError(f"--lr must be given different rates, not {' '.join(map(repr, args.lr))}")
        every = [name for name in method_names(base.methods) if name not in REFERENCES]
        methods = [
            name for name in every if plugins.checked(METHODS, name).takes_steps()
        ]  # the others have no learning rate
        if not methods:
            kind = "a method that trains nothing" if every else "a control"
            raise ValueError(
                f"--methods {joined(base.methods)}: {kind} has no learning rate; name a method that trains"
            )
        engine = Local(arguments.spread(args).settings())
        try:
            found = search(methods, args.lr, base, engine, lambda text: say(console, text))
        except KeyboardInterrupt:
            again = f"python run_bench.py {joined(words)}"
            say(console, f"stopped; the store keeps every finished stage. Resume:\n  {again}")
            return 130
    file = base.out / f"{stem(f'tuning-{base.world}')}.csv"
    output_files.write({file: csv_files.text(found, "%.6g")})
    console.print(show(found, f"learning rates on {base.world}"))
    say(console, f"written: {file}")
    return 0
