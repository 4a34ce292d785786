"""The commands `run`, `plan` and `collect`: compute a board, say what that would take, or write it from the store."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from bench.cells import legacy
from bench.commands import arguments, listing, results_archive
from bench.core.flags import words_of
from bench.engines import ENGINES, Engine
from bench.engines.base import CannotStart
from bench.engines.local import usual_count
from bench.plan.plan import Plan, resolve

OK, FAILED, INTERRUPTED = 0, 1, 130

RUN = """\
Compute a board: each method forgets each target of a suite, and what the changed
model then draws is judged. `run` is the command where no other is named.

Whatever is finished is kept in the store, DIR/.store of --out. After Ctrl-C, or
to add a method or a metric, give the command again: it continues where it
stopped, and computes only what is new."""
PLAN = """\
List the cells of a run, what the store has of each, and the estimated time.
No model is loaded and nothing is computed. The flags are those of `run`: put
`plan` before them. The last lines are the same run as one command, with the
values of --config in it."""
COLLECT = """\
Write the tables and the report of a run from what the store has, without
computing anything. The flags are those of `run`. Name other methods or other
metrics to write another choice from the same store. The exit code is 1 if a
cell of the run is missing; the board says which."""


def add_flags(p: argparse.ArgumentParser) -> None:
    """The flags that `run`, `plan` and `collect` share."""
    arguments.add_run(p, spread=True)


def require_writable(out: Path) -> None:
    """Raise ValueError where `out`, or what it would be made in, can't be written to. Makes nothing."""
    place = next(one for one in (out, *out.absolute().parents) if one.exists())
    if not place.is_dir():
        raise ValueError(f"--out {out}: {place} is a file, and a folder is needed")
    if not os.access(place, os.W_OK | os.X_OK):
        raise ValueError(f"--out {out}: nothing can be written in {place}")


def prepared(args: argparse.Namespace, console: Console, writes: bool) -> tuple[Plan, Engine]:
    """The plan and the engine that parsed words describe, with the results of others in the store.

    Args:
        writes: whether the command writes into --out.

    Raises CannotRun.
    """
    with arguments.refusing():
        spread = arguments.spread(args)
        engine = ENGINES.get(spread.executor)(spread.settings())
        run = arguments.run_config(args)
        if spread.results or writes:
            require_writable(run.out)
        plan = resolve(run)
        for file in spread.results:
            console.print(escape(results_archive.unpack(plan, file)), highlight=False, soft_wrap=True)
        if renamed := legacy.adopt(plan):
            said = f"{len(renamed)} stages that release 0.1 left in {run.out} were given today's keys"
            console.print(escape(said), highlight=False, soft_wrap=True)
    return plan, engine


def run(args: argparse.Namespace, words: Sequence[str], console: Console) -> int:
    """Compute the board, show it and write it. `words` are repeated to whoever interrupts the run."""
    plan, engine = prepared(args, console, writes=True)
    from bench.commands import progress  # what boards are made of takes a second to import
    from bench.report import write

    found = progress.follow(plan, engine, words, console, arguments.spread(args).attach)
    if found is None:
        return INTERRUPTED
    executor, results, minutes = found
    return OK if write.finish(plan, executor, results, console, f"; {minutes:.1f} min") else FAILED


def plan(args: argparse.Namespace, words: Sequence[str], console: Console) -> int:
    """Show the cells, what is stored of them, the estimated time, and the run as one command."""
    plan, _ = prepared(args, console, writes=False)
    console.print(listing.planned(plan, arguments.spread(args).workers or usual_count(plan)))
    spread = shlex.join(words_of(arguments.spread(args)))
    same = f"the same run as one command:\n  {plan.run.command} {spread}".rstrip()
    console.print(escape(same), highlight=False, soft_wrap=True)
    return OK


def collect(args: argparse.Namespace, words: Sequence[str], console: Console) -> int:
    """Write the tables from what the store has."""
    plan, _ = prepared(args, console, writes=True)
    from bench.report import replacing, write

    executor, results = write.collect(plan)
    if all(result.status == "not run" for result in results):
        raise CannotStart(f"nothing of this run is in {executor.artifacts.store.root}: no table written")
    replacing.require_same_configuration(executor)
    return OK if write.finish(plan, executor, results, console) else FAILED
