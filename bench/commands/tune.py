"""The same small search for every method: a few learning rates on targets that no board forgets.

    python -m bench.commands.tune --methods all

A preset is what a method's settings become on a world's own backbone; a benchmark that tunes its favourite alone is
worth nothing. Every method gets the same learning rates, tasks, seed and rules. The best rate has the largest H, the
harmonic mean of UA, NRA and ORA; among those within a point of it, the least drift. A method whose best rate is the
least or the largest it tried goes on to half or double of it, up to twice. Whatever is computed stays in the store, so
the search resumes. It writes OUT/tuning-WORLD.csv, and changes no preset: that is for you to do.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import harmonic_mean
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from bench.board import tables
from bench.cells.executor import Executor
from bench.commands.arguments import require_writable
from bench.core.config import RunConfig
from bench.engines import Engine, Settings
from bench.engines.base import CannotStart
from bench.engines.local import Local
from bench.plan import plugins
from bench.plan.plan import method_names, resolve
from bench.worlds import WorldUnavailable
from methods import REFERENCES

RATES = (1e-4, 2e-4, 4e-4)
FURTHER = 2  # times that a method may go on beyond them
METRICS = ("ua", "nra", "ora", "twin", "drift")
CLOSE = 1.0  # points of H within which drift decides
Tell = Callable[[str], object]
SHOWN = ("method", "lr", "H", "ua", "nra", "ora", "twin", "drift", "seconds", "status", "best")


def search(methods: Sequence[str], rates: Sequence[float], base: RunConfig, engine: Engine, tell: Tell) -> pd.DataFrame:
    """One row a method and learning rate: its means over the tasks of the suite `search`, H, and whether it is best."""
    found = pd.concat([tried(methods, rate, base, engine, tell) for rate in rates], ignore_index=True)
    for _ in range(FURTHER):
        wanted = further(chosen(found))
        new = [tried(names, rate, base, engine, tell) for rate, names in wanted.items()]
        found = pd.concat([found, *new], ignore_index=True)
    return chosen(found)


def tried(methods: Sequence[str], rate: float, base: RunConfig, engine: Engine, tell: Tell) -> pd.DataFrame:
    """One row a method: its means over the tasks at one learning rate."""
    rates = {name: {"lr": repr(rate)} for name in methods}
    plan = resolve(dataclasses.replace(base, methods=tuple(methods), overrides=rates))
    results: dict[int, tables.Result] = {}
    executor = Executor(plan)
    for index, result in engine.run(executor, lambda status: None):
        results[index] = result
        tell(f"lr {rate:g} [{len(results)}/{len(plan.cells)}] {plan.cells[index].name}: {result['status']}")
    board = tables.board_frame([results[i] for i in sorted(results)], plan.metrics, "full")
    return board[~board["method"].isin(REFERENCES)].assign(lr=rate)


def further(found: pd.DataFrame) -> dict[float, list[str]]:
    """Rate -> methods that should try it: half or double the best, where that is the least or largest one tried."""
    wanted: dict[float, list[str]] = {}
    for row in found[found["best"] == "yes"].to_dict("records"):
        rates = found.loc[found["method"] == row["method"], "lr"]
        for end, next_rate in ((rates.min(), row["lr"] / 2), (rates.max(), row["lr"] * 2)):
            if row["lr"] == end:
                wanted.setdefault(next_rate, []).append(row["method"])
    return wanted


def chosen(found: pd.DataFrame) -> pd.DataFrame:
    """`found` with H, and "yes" under `best` in one row a method; a rate at which a cell failed has no H."""
    summaries = pd.Series([summary(row) for row in found.to_dict("records")], found.index, dtype=float)
    found = found.assign(H=summaries, best="")
    for _, rows in found[found["H"].notna()].groupby("method", sort=False):
        near = rows[rows["H"] >= rows["H"].max() - CLOSE]
        found.loc[near["drift"].idxmin(), "best"] = "yes"
    place = {name: i for i, name in enumerate(dict.fromkeys(found["method"]))}
    ranked = found.assign(place=found["method"].map(place)).sort_values(["place", "lr"]).drop(columns="place")
    return ranked[[*SHOWN, *(name for name in ranked if name not in SHOWN)]]


def summary(row: Mapping[Any, Any]) -> float | None:
    """H, the harmonic mean of UA, NRA and ORA, 0 to 100; None where a figure is missing."""
    values = [row[name] for name in ("ua", "nra", "ora")]
    return None if any(pd.isna(value) for value in values) else harmonic_mean(values)


def show(found: pd.DataFrame, title: str) -> Table:
    """The search for a terminal."""
    table = Table(title=title)
    for name in SHOWN:
        table.add_column(name, justify="left" if name in ("method", "status", "best") else "right")
    for row in found.to_dict("records"):
        figures = [f"{row[name]:.{3 if name == 'drift' else 1}f}" if pd.notna(row[name]) else "" for name in SHOWN[2:9]]
        table.add_row(row["method"], f"{row['lr']:g}", *figures, row["status"], row["best"])
    return table


def main(argv: Sequence[str] | None = None) -> None:
    """Command line of `python -m bench.commands.tune`."""
    p = argparse.ArgumentParser(
        prog="python -m bench.commands.tune", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    defaults = RunConfig()
    p.add_argument("--methods", nargs="+", default=["all"], metavar="NAME", help='names, or "all" (default)')
    p.add_argument("--lr", nargs="+", type=float, default=list(RATES), metavar="RATE", help="default: %(default)s")
    p.add_argument("--world", default=defaults.world)
    p.add_argument("--plugin", nargs="+", type=Path, default=[], metavar="FILE", help="files that register methods")
    p.add_argument("--out", type=Path, default=defaults.out, metavar="DIR", help="the table, and the store")
    p.add_argument("--workers", type=int, metavar="N", help="processes; default as for a run")
    args = p.parse_args(argv)
    console = Console()
    if not console.is_terminal:
        console = Console(width=120)
    files = tuple(file.resolve() for file in args.plugin)
    base = RunConfig(world=args.world, suite="search", metrics=METRICS, plugins=files, out=args.out)
    try:
        require_writable(args.out)
        plugins.load(files)
        methods = [name for name in method_names(tuple(args.methods)) if name not in REFERENCES]
        found = search(methods, args.lr, base, Local(Settings(args.workers)), console.print)
    except (ValueError, FileNotFoundError, WorldUnavailable, CannotStart) as error:
        p.error(str(error))
    except KeyboardInterrupt:
        console.print("stopped; what is finished is kept, and the same command goes on from there")
        raise SystemExit(130) from None
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / f"tuning-{args.world}.csv"
    found.to_csv(file, index=False, float_format="%.6g")
    console.print(show(found, f"learning rates on {args.world}"))
    console.print(f"written: {file}")


if __name__ == "__main__":
    main()
