"""The command line: reads arguments, runs cells, shows and writes the board."""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from bench import leaderboard, overrides, workers
from bench.config import RunConfig
from bench.executor import Executor
from bench.plan import PROTOCOL, Plan, method_names, resolve
from bench.suites import SUITES
from bench.worlds import WORLDS, WorldUnavailable
from methods import METHODS
from metrics import COSTS, METRICS

EXAMPLES = """examples:
  python run_bench.py --methods mimmu salun --suite finegrained
  python run_bench.py --methods mimmu --set mimmu.lr=1e-4 protocol.images_per_concept=20 --seeds 0 1
  python run_bench.py --methods all --suite finegrained --plan
  python run_bench.py --methods mimmu --metrics ua nra drift
  python run_bench.py --methods mimmu --suite smoke --out /tmp/lethe
  python run_bench.py --list methods
"""
WIDTH = 120  # where no terminal says how wide it is
OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    defaults = RunConfig()
    p = argparse.ArgumentParser(
        prog="run_bench.py",
        description="Which method removes a concept from a text-to-image diffusion model, and only that concept?",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--methods", nargs="+", metavar="NAME", default=list(defaults.methods), help='names, or "all"')
    p.add_argument(
        "--metrics",
        nargs="+",
        metavar="NAME",
        default=list(defaults.metrics),
        help="what to measure; default: all; what it cost is always measured",
    )
    p.add_argument("--suite", default=defaults.suite, help="what to forget (default: %(default)s)")
    p.add_argument("--world", default=defaults.world, help="what can be drawn and judged (default: %(default)s)")
    p.add_argument("--backbone", metavar="PATH", help="diffusers folder or hub id; default: the world's own")
    p.add_argument("--seeds", nargs="+", type=int, metavar="N", default=list(defaults.seeds), help="training seeds")
    p.add_argument(
        "--set", nargs="+", action="extend", metavar="SECTION.FIELD=VALUE", default=[],
        help="change a method's setting (mimmu.lr=1e-5) or the protocol's (protocol.guidance_scale=3)",
    )  # fmt: skip
    p.add_argument("--quick", action="store_true", help="fewer tasks and images; the board says so in its name")
    p.add_argument("--plan", action="store_true", help="show the cells and what is already in the store, then stop")
    p.add_argument("--list", choices=("methods", "suites", "worlds", "metrics"), help="show what there is, then stop")
    p.add_argument("--out", type=Path, default=defaults.out, metavar="DIR", help="tables, and the store in DIR/.store")
    p.add_argument("--workers", type=int, metavar="N", help="processes; default: one a core on CPU, one on CUDA")
    p.add_argument("--collect", action="store_true", help="write the tables from the store without computing anything")
    p.add_argument("--force", action="store_true", help="compute the named methods again, whatever the store has")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns 0, 1 if a cell failed, 2 for bad usage, 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    args = parser().parse_args(arguments)
    if args.workers is not None and args.workers < 1:
        parser().error("--workers must be at least 1")
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    if args.list:
        console.print(listing(args.list))
        return OK
    try:
        names = method_names(tuple(args.methods))
        run = RunConfig(
            methods=tuple(args.methods),
            suite=args.suite,
            world=args.world,
            backbone=args.backbone,
            seeds=tuple(args.seeds),
            metrics=tuple(args.metrics),
            overrides=overrides.parse(args.set, (*names, PROTOCOL)),
            quick=args.quick,
            force=args.force,
            out=args.out,
        )
        plan = resolve(run)
    except (ValueError, FileNotFoundError, WorldUnavailable) as error:
        return refuse(error, console)
    try:
        if args.plan:
            console.print(planned(plan))
            return OK
        if args.collect:
            return collect(plan, console)
        return execute(plan, args.workers or workers.usual_count(plan), arguments, console)
    except WorldUnavailable as error:
        return refuse(error, console)


def refuse(error: Exception, console: Console) -> int:
    """Say why nothing was run."""
    console.print(f"[red]error:[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
    return USAGE


def execute(plan: Plan, count: int, arguments: Sequence[str], console: Console) -> int:
    """Run every cell in `count` processes (1: this one), then write and show the board."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    results: dict[int, leaderboard.Result] = {}
    began = time.perf_counter()
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        cells = progress.add_task("cells", total=len(plan.cells))
        stage = progress.add_task("starting", total=None, visible=count == 1)

        def report(what: str, done: int, total: int) -> None:
            progress.update(stage, description=what, completed=done, total=total)

        try:
            executor = Executor(plan, report)
            for index, result in workers.run(plan, count, executor.failed) if count > 1 else executor.run_all():
                results[index] = result
                progress.advance(cells)
                said = line(len(results), plan, plan.cells[index].name, result)
                progress.console.print(said, highlight=False, soft_wrap=True)
        except KeyboardInterrupt:
            said = f"stopped after {len(results)} of {len(plan.cells)} cells; every finished stage is kept. Resume:"
            again = f"  python run_bench.py {escape(shlex.join(arguments))}"
            progress.console.print(f"{said}\n{again}", soft_wrap=True, highlight=False)
            return INTERRUPTED
    minutes = (time.perf_counter() - began) / 60
    return finish(plan, executor, [results[i] for i in sorted(results)], console, f"; {minutes:.1f} min")


def line(done: int, plan: Plan, name: str, result: leaderboard.Result) -> str:
    """One finished cell, for a person who watches."""
    head = f"[{done}/{len(plan.cells)}]".rjust(8).replace("[", r"\[")
    if result["status"] != "ok":
        where = f" ({result['traceback']})" if result["traceback"] else ""
        return f"{head} {name}: [red]{escape(result['reason'])}[/red]{where}"
    figures = "  ".join(
        f"{metric.name} {leaderboard.scaled(metric, score['value']):.{metric.digits}f}"
        for metric in leaderboard.in_table(plan.metrics)
        if (score := result["scores"][metric.name])
    )
    return f"{head} {name}: {figures}"


def collect(plan: Plan, console: Console) -> int:
    """Write and show the board from what the store has."""
    executor = Executor(plan)
    return finish(plan, executor, [executor.stored(cell) for cell in plan.cells], console)


def finish(plan: Plan, executor: Executor, results: list[leaderboard.Result], console: Console, took: str = "") -> int:
    """Write the tables, show the board, say where it is."""
    note = "quick" if plan.run.quick else "full"
    stem = plan.run.board_name
    board = leaderboard.write(results, plan.metrics, plan.run.out, stem, note, executor.description)
    title = f"{plan.run.suite} on {plan.world.name}; tasks: {len(plan.tasks)}{took}"
    console.print(leaderboard.show(board, plan.metrics, title))
    console.print(f"written: {plan.run.out / stem}.csv, {stem}-cells.csv, {stem}-concepts.csv", highlight=False)
    return FAILED if any(result["status"] == "failed" for result in results) else OK


def planned(plan: Plan) -> Table:
    """The cells of a run, and which of their stages the store has."""
    executor = Executor(plan)
    table = Table(title=f"{len(plan.cells)} cells; backbone {plan.folder}")
    for name in ("cell", "unlearning", "images", "result", "seconds to unlearn"):
        table.add_column(name)
    for cell in plan.cells:
        weights = executor.stages.store.get("deltas", executor.stages.delta_key(cell))
        images = weights and executor.stages.store.get("images", executor.stages.images_key(weights))
        done = executor.stored(cell)["status"] == "ok"
        words = ["stored" if there else "to do" for there in (weights, images, done)]
        table.add_row(cell.name, *words, f"{weights.facts['cost']['seconds']:.1f}" if weights else "?")
    return table


def listing(what: str) -> Table:
    """What there is of a kind: name, one line, and where it comes from."""
    table = Table(title=what)
    for column in ("name", "about", "source", {"methods": "fidelity", "metrics": "unit, better"}.get(what, "")):
        table.add_column(column)
    if what == "methods":
        for name in METHODS.names():
            method = METHODS.get(name)
            table.add_row(name, method.about, method.source, method.fidelity)
    elif what == "metrics":
        for name in METRICS.names():
            metric = METRICS.get(name)
            table.add_row(name, metric.about, metric.source, f"{metric.unit} {metric.arrow}".strip())
        for cost in COSTS:
            table.add_row(cost.name, cost.about, "counted by the harness; on every board", f"{cost.unit} ↓")
    else:
        registry = SUITES if what == "suites" else WORLDS
        for name in registry.names():
            table.add_row(name, registry.get(name).about, "", "")
    return table
