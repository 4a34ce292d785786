"""The commands `run`, `plan` and `collect`: compute a board, estimate its time, or write it from the store."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rich.console import Console

from bench.cells import legacy
from bench.cells.artifacts import STORE
from bench.commands import arguments, listing, results_archive
from bench.core.flags import words_of
from bench.core.text.shell import joined
from bench.core.text.terminal import say
from bench.engines import ENGINES, Engine
from bench.engines.base import CannotStart
from bench.engines.local import usual_count
from bench.plan.plan import Plan, resolve

OK, FAILED, INTERRUPTED = 0, 1, 130

RUN = """\
Compute a board. Each method makes the model forget each target of a suite, and
classifiers judge the images of the changed model. `run` is the default command.

The store, DIR/.store of --out, keeps finished work. After Ctrl-C, give the same
command again to continue the run. To add a method or a metric, give the command
with the new name: only the new work is computed."""
PLAN = """\
List the cells of a run, the cached stages of each cell, and the estimated time. No
model is loaded and nothing is computed. The flags are those of `run`. The last
lines are an equal command, which contains the values of --config."""
COLLECT = """\
Write the tables and the report of a run from the results in the store. Nothing is
computed. The flags are those of `run`. To write another selection from the same
store, name other methods or other metrics. The exit code is 1 if a cell of the run
is missing; the board says which."""


def add_flags(p: argparse.ArgumentParser) -> None:
    """Add the flags of `run`, `plan` and `collect`."""
    arguments.add_run(p, spread=True)


def prepared(args: argparse.Namespace, console: Console, writes: bool) -> tuple[Plan, Engine]:
    """The plan and the engine that parsed words describe. The results of --results are imported into the store.

    Args:
        args: the parsed words.
        console: where to print what was imported.
        writes: whether the command writes into --out.

    Raises CannotRun.
    """
    with arguments.refusing():
        spread = arguments.spread(args)
        engine = ENGINES.get(spread.executor)(spread.settings())
        run = arguments.run_config(args)
        if spread.results or writes:
            arguments.require_writable(run.out)
            if (store := run.out / STORE).exists():
                arguments.require_writable(store)
        plan = resolve(run)
        for file in spread.results:
            say(console, results_archive.unpack(plan, file))
        if renamed := legacy.adopt(plan):
            say(console, f"{len(renamed)} entries of release 0.1 in {run.out} now have the cache keys of this release")
    return plan, engine


def run(args: argparse.Namespace, words: Sequence[str], console: Console) -> int:
    """Compute the board, show it and write it. After an interrupt, `words` are printed to resume the run.

    Returns 0; 1 if a cell has no result; 130 after an interrupt.
    """
    plan, engine = prepared(args, console, writes=True)
    from bench.commands import progress  # these modules take a second to import
    from bench.report import write

    found = progress.follow(plan, engine, words, console, arguments.spread(args).attach)
    if found is None:
        return INTERRUPTED
    executor, results, minutes = found
    return OK if write.finish(plan, executor, results, console, f"; {minutes:.1f} min") else FAILED


def plan(args: argparse.Namespace, words: Sequence[str], console: Console) -> int:
    """Show the cells, their stored stages, the estimated time and an equal command. Returns 0."""
    plan, _ = prepared(args, console, writes=False)
    workers = arguments.spread(args).workers or usual_count(plan)
    console.print(listing.planned(plan, workers, console.encoding))
    spread = joined(words_of(arguments.spread(args)))
    say(console, f"the same run as one command:\n  {plan.run.command} {spread}".rstrip())
    return OK


def collect(args: argparse.Namespace, words: Sequence[str], console: Console) -> int:
    """Write the tables from the results in the store. Returns 0; 1 if a cell has no result."""
    plan, _ = prepared(args, console, writes=True)
    from bench.report import replacing, write

    executor, results = write.collect(plan)
    if all(result.status == "not run" for result in results):
        raise CannotStart(f"{executor.artifacts.store.root} has no result of this run, so no table was written")
    replacing.require_same_configuration(executor)
    return OK if write.finish(plan, executor, results, console) else FAILED
