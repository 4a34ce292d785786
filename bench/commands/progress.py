"""The command line of a run: what is seen of it while it goes on, and how it is left."""

from __future__ import annotations

import shlex
import signal
import time
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bench.board import tables
from bench.cells import estimate
from bench.cells.executor import Executor
from bench.commands.eta import Eta
from bench.core.results import CellResult
from bench.engines import Engine, Status
from bench.engines.base import adopt
from bench.engines.run_folder import RunFolder
from bench.plan.plan import Plan
from bench.report import terminal
from bench.report.replacing import require_same_configuration

Found = tuple[Executor, list[CellResult], float]  # what saw them, results in the plan's order, minutes


def follow(plan: Plan, engine: Engine, words: Sequence[str], console: Console, attached: bool = False) -> Found | None:
    """Have every cell computed and show the progress; None where the run was left or stopped before its end.

    Args:
        words: of the command line; whoever interrupts the run is told the command that resumes it.
        attached: whether this command watches a run that another one began.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    results: dict[int, CellResult] = {}
    began, said = time.perf_counter(), False
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        cells = progress.add_task("cells", total=len(plan.cells))
        stage = progress.add_task("starting", total=None)

        def report(what: str, done: int, total: int) -> None:
            progress.update(stage, description=what, completed=done, total=total)

        def watch(status: Status) -> None:
            nonlocal said
            if engine.begun and engine.detachable and not said:
                said = True
                console.print(f"handed out; {escape(engine.attaching())}", highlight=False, soft_wrap=True)
            pace.update(status, len(results))
            if engine.detachable or status.running > 1:  # nothing is reported from within a cell elsewhere
                failed = sum(not result.ok for result in results.values())
                progress.update(stage, description=pace.text(len(results), failed), total=None)

        try:
            executor, machine = Executor(plan, report), None
            if engine.detachable:
                machine = RunFolder(plan.run).machine()
                adopt(executor, machine)
                for name in ("SIGHUP", "SIGTERM"):  # a terminal that is closed leaves the run as Ctrl-C does
                    signal.signal(getattr(signal, name), signal.default_int_handler)
            require_same_configuration(executor, is_machine_known=machine is not None or not engine.detachable)
            pace = Eta(len(plan.cells), estimate.work(executor.outcomes) if engine.detachable else None)
            for index, result in engine.run(executor, watch):
                results[index] = result
                progress.advance(cells)
                done = line(len(results), plan, plan.cells[index].name, result)
                progress.console.print(done, highlight=False, soft_wrap=True)
        except KeyboardInterrupt:
            progress.stop()
            rest = without(words, plan.run.force, "--force")  # what was computed again stays
            if leave(engine, console) if engine.begun and engine.detachable else attached:
                left = f"the run goes on; {escape(engine.attaching() or 'nothing was ended')}. Watch it again:"
                again = f"  python run_bench.py {escape(shlex.join([*without(rest, False, '--attach'), '--attach']))}"
                console.print(f"{left}\n{again}", soft_wrap=True, highlight=False)
                return None
            stopped = f"stopped after {len(results)} of {len(plan.cells)} cells; every finished stage is kept. Resume:"
            again = f"  python run_bench.py {escape(shlex.join(without(rest, attached, '--attach')))}"
            progress.console.print(f"{stopped}\n{again}", soft_wrap=True, highlight=False)
            return None
    minutes = (time.perf_counter() - began) / 60
    ordered = [executor.outcomes.relabel(plan.cells[i], results[i]) for i in sorted(results)]
    return executor, ordered, minutes


def without(words: Sequence[str], given: bool, switch: str) -> list[str]:
    """The words of a command without a switch.

    Args:
        given: whether the switch is on. If the words don't name it, it comes from a file: then it is taken back.
    """
    rest = [word for word in words if word != switch]
    return [*rest, switch.replace("--", "--no-", 1)] if given and len(rest) == len(words) else rest


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


def line(done: int, plan: Plan, name: str, result: CellResult) -> str:
    """One finished cell, for a person who watches."""
    head = f"[{done}/{len(plan.cells)}]".rjust(8).replace("[", r"\[")
    if not result.ok:
        where = f" ({result.traceback})" if result.traceback else ""
        return f"{head} {name}: [red]{escape(result.reason)}[/red]{where}"
    figures = "  ".join(
        f"{metric.name} {tables.scaled(metric, score.value):.{metric.digits}f}"
        for metric in terminal.in_table(plan.metrics)
        if (score := result.scores[metric.name])
    )
    return f"{head} {name}: {figures}"
