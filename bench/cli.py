"""The command line: reads arguments, runs cells, shows and writes the board."""

from __future__ import annotations

import logging
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from bench import estimate, export, leaderboard, markdown, options, plugins, report, show, terminal
from bench.engines import ENGINES, Engine, Status
from bench.engines.base import CannotStart, adopt
from bench.engines.local import usual_count
from bench.executor import Executor
from bench.pace import Pace
from bench.plan import Plan, resolve
from bench.runs import RunFolder, machines
from bench.worlds import WORLDS, WorldUnavailable

log = logging.getLogger(__name__)

WIDTH = 120  # where no terminal says how wide it is
OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns 0, 1 if a cell failed, 2 for bad usage, 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    args = options.parser().parse_args(arguments)
    if args.workers is not None and args.workers < 1:
        options.parser().error("--workers must be at least 1")
    if bool(args.export) != bool(args.to):
        options.parser().error("--export CELL and --to DIR go together")
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        plugins.load(args.plugin)
        if args.list:
            console.print(show.listing(args.list, WORLDS.get(args.world)))
            return OK
        if args.prepare:
            return prepare(args.prepare, args.data, console)
        if args.export:
            method, _, seed = export.parse(args.export)
            name = method.partition(" ")[0]  # of "mimmu t_max=300", a row of a sweep
            args.methods, args.seeds = [*args.methods, name], args.seeds if seed is None else (seed,)
        engine = ENGINES.get(args.executor)(options.settings(args))
        plan = resolve(options.run_config(args))
        if args.export:
            export.export(plan, args.export, args.to)
            console.print(f"written: {args.to}", highlight=False, soft_wrap=True)
            return OK
    except (ValueError, FileNotFoundError, WorldUnavailable) as error:
        return refuse(error, console)
    try:
        if args.plan:
            console.print(show.planned(plan, args.workers or usual_count(plan)))
            return OK
        if args.collect:
            return collect(plan, console)
        return execute(plan, engine, arguments, console)
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


def execute(plan: Plan, engine: Engine, arguments: Sequence[str], console: Console) -> int:
    """Have every cell computed, then write and show the board."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    results: dict[int, leaderboard.Result] = {}
    began = time.perf_counter()
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        cells = progress.add_task("cells", total=len(plan.cells))
        stage = progress.add_task("starting", total=None)

        def report(what: str, done: int, total: int) -> None:
            progress.update(stage, description=what, completed=done, total=total)

        def watch(status: Status) -> None:
            pace.told(status, len(results))
            if engine.detachable or status.running > 1:  # nothing is reported from within a cell elsewhere
                failed = sum(result["status"] != "ok" for result in results.values())
                progress.update(stage, description=pace.text(len(results), failed), total=None)

        try:
            executor = Executor(plan, report)
            if engine.detachable:
                adopt(executor, RunFolder(plan.run).machine())
                for name in ("SIGHUP", "SIGTERM"):  # a terminal that is closed leaves the run as Ctrl-C does
                    signal.signal(getattr(signal, name), signal.default_int_handler)
            pace = Pace(len(plan.cells), estimate.work(executor) if engine.detachable else None)
            for index, result in engine.run(executor, watch):
                results[index] = result
                progress.advance(cells)
                said = line(len(results), plan, plan.cells[index].name, result)
                progress.console.print(said, highlight=False, soft_wrap=True)
        except KeyboardInterrupt:
            progress.stop()
            if engine.detachable and leave(engine, console):
                words = [word for word in arguments if word not in ("--force", "--attach")] + ["--attach"]
                left = f"the run goes on; {engine.attaching()}. Watch it again:"
                again = f"  python run_bench.py {escape(shlex.join(words))}"
                console.print(f"{left}\n{again}", soft_wrap=True, highlight=False)
                return INTERRUPTED
            said = f"stopped after {len(results)} of {len(plan.cells)} cells; every finished stage is kept. Resume:"
            rest = [word for word in arguments if word not in ("--force", "--attach")]  # what was computed again stays
            again = f"  python run_bench.py {escape(shlex.join(rest))}"
            progress.console.print(f"{said}\n{again}", soft_wrap=True, highlight=False)
            return INTERRUPTED
    minutes = (time.perf_counter() - began) / 60
    ordered = [executor.restated(plan.cells[i], results[i]) for i in sorted(results)]
    return finish(plan, executor, ordered, console, f"; {minutes:.1f} min")


def leave(engine: Engine, console: Console) -> bool:
    """Ask whether what an engine began is to go on; without an answer it does. Ends it where it is not to."""
    try:
        answer = console.input("\nleave the jobs running? [Y/n] ") if console.is_interactive else ""
    except (EOFError, KeyboardInterrupt):
        answer = ""
    if answer.strip().lower() not in ("n", "no"):
        return True
    engine.cancel()
    return False


def line(done: int, plan: Plan, name: str, result: leaderboard.Result) -> str:
    """One finished cell, for a person who watches."""
    head = f"[{done}/{len(plan.cells)}]".rjust(8).replace("[", r"\[")
    if result["status"] != "ok":
        where = f" ({result['traceback']})" if result["traceback"] else ""
        return f"{head} {name}: [red]{escape(result['reason'])}[/red]{where}"
    figures = "  ".join(
        f"{metric.name} {leaderboard.scaled(metric, score['value']):.{metric.digits}f}"
        for metric in terminal.in_table(plan.metrics)
        if (score := result["scores"][metric.name])
    )
    return f"{head} {name}: {figures}"


def collect(plan: Plan, console: Console) -> int:
    """Write and show the board from what the store has."""
    executor = Executor(plan)
    results = [executor.stored(cell) for cell in plan.cells]
    for machine in machines(plan.run.out):  # of nodes, where runs were spread over some: whose results are most
        other = Executor(plan)
        adopt(other, machine)
        found = [other.stored(cell) for cell in plan.cells]
        if sum(r["status"] == "ok" for r in found) > sum(r["status"] == "ok" for r in results):
            executor, results = other, found
    if all(result["status"] == "not run" for result in results):
        return refuse(ValueError(f"nothing of this run is in {executor.stages.store.root}: no table written"), console)
    return finish(plan, executor, results, console)


def finish(plan: Plan, executor: Executor, results: list[leaderboard.Result], console: Console, took: str = "") -> int:
    """Write the tables, show the board, say where it is."""
    note = "quick" if plan.run.quick else "full"
    how = f"quick: {plan.images(plan.concepts[0])} images a concept; " if plan.run.quick else ""
    stem = plan.run.board_name
    tables = leaderboard.write(results, plan.metrics, plan.run.out, stem, note, executor.description)
    title = f"{plan.run.suite} on {plan.world.name}; {how}tasks: {len(plan.tasks)}"
    leaderboard.replace(plan.run.out / f"{stem}.md", markdown.table(tables.board, plan.metrics, title))
    console.print(terminal.show(tables.board, plan.metrics, title + took, console.width))
    further = {"-curve.csv": tables.curve, "-recovery.csv": tables.recovered}
    more = ["-cells.csv", "-concepts.csv", *(end for end, table in further.items() if len(table)), ".md", ".json"]
    try:
        report.write(executor, results, tables, plan.run.out / f"{stem}.html")
        more.insert(0, ".html")
    except Exception as error:  # the tables stand without it
        log.warning("no report was written: %s: %s", type(error).__name__, error, exc_info=True)
    written = ", ".join([f"written: {plan.run.out / stem}.csv", *(f"{stem}{end}" for end in more)])
    console.print(written, highlight=False, soft_wrap=True)
    return OK if all(result["status"] == "ok" for result in results) else FAILED
