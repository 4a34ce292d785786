"""The command line: reads arguments, has cells run, and the board shown and written."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from bench.cells import legacy
from bench.commands import arguments as flags
from bench.commands import export, listing, results_archive
from bench.engines import ENGINES
from bench.engines.base import CannotStart
from bench.engines.local import usual_count
from bench.plan import plugins
from bench.plan.plan import resolve
from bench.worlds import WORLDS, WorldUnavailable

WIDTH = 120  # where no terminal says how wide it is
OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns 0, 1 if a cell failed, 2 for bad usage, 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    args = flags.parser().parse_args(arguments)
    if args.workers is not None and args.workers < 1:
        flags.parser().error("--workers must be at least 1")
    if bool(args.export) != bool(args.to):
        flags.parser().error("--export CELL and --to DIR go together")
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        plugins.load(args.plugin)
        if args.list:
            console.print(listing.listing(args.list, WORLDS.get(args.world)))
            return OK
        if args.prepare:
            return prepare(args.prepare, args.data, console)
        if args.export:
            method, _, seed = export.parse(args.export)
            name = method.partition(" ")[0]  # of "mimmu t_max=300", a row of a sweep
            args.methods, args.seeds = [*args.methods, name], args.seeds if seed is None else (seed,)
        engine = ENGINES.get(args.executor)(flags.settings(args))
        if args.results or not (args.plan or args.export):
            flags.require_writable(args.out)
        plan = resolve(flags.run_config(args))
        for file in args.results:
            console.print(escape(results_archive.unpack(plan, file)), highlight=False, soft_wrap=True)
        if renamed := legacy.adopt(plan):
            said = f"{len(renamed)} stages that release 0.1 left in {args.out} were given today's keys"
            console.print(escape(said), highlight=False, soft_wrap=True)
        if args.export:
            export.export(plan, args.export, args.to)
            console.print(f"written: {args.to}", highlight=False, soft_wrap=True)
            return OK
    except (ValueError, FileNotFoundError, WorldUnavailable) as error:
        return refuse(error, console)
    try:
        if args.plan:
            console.print(listing.planned(plan, args.workers or usual_count(plan)))
            return OK
        from bench.commands import progress  # what boards are made of takes a second to import
        from bench.report import write

        if args.collect:
            executor, results = write.collect(plan)
            if all(result["status"] == "not run" for result in results):
                raise CannotStart(f"nothing of this run is in {executor.stages.store.root}: no table written")
            took = ""
        else:
            found = progress.follow(plan, engine, arguments, console)
            if found is None:
                return INTERRUPTED
            executor, results, minutes = found
            took = f"; {minutes:.1f} min"
        return OK if write.finish(plan, executor, results, console, took) else FAILED
    except (WorldUnavailable, CannotStart) as error:
        return refuse(error, console)


def prepare(name: str, data: Path | None, console: Console) -> int:
    """Bring what a world needs into `data`, as far as can be, and say what is missing."""
    world = WORLDS.get(name)
    if world.prepare is None:
        console.print(f"the world {name!r} needs no data: it brings its own", highlight=False)
        return OK
    if data is None:
        raise ValueError(f"--prepare {name} takes --data DIR, the folder for its data sets")
    return OK if world.prepare(data.expanduser().resolve(), console) else FAILED


def refuse(error: Exception, console: Console) -> int:
    """Say why nothing was run."""
    console.print(f"[red]error:[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
    return USAGE
