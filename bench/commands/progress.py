"""The progress display of a run, and what happens when the user interrupts the run."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from bench.board import tables
from bench.cells import estimate
from bench.cells.executor import Executor
from bench.commands.eta import Eta
from bench.core.results import CellResult
from bench.core.text.printable import printable
from bench.core.text.shell import joined
from bench.core.text.terminal import Description, say
from bench.engines import Engine, Status
from bench.engines.base import adopt
from bench.engines.run_folder import RunFolder
from bench.plan.plan import Plan
from bench.report import terminal
from bench.report.replacing import require_same_configuration

Found = tuple[Executor, list[CellResult], float]  # what saw them, results in the plan's order, minutes


def follow(plan: Plan, engine: Engine, words: Sequence[str], console: Console, attached: bool = False) -> Found | None:
    """Let the engine compute every cell, and show the progress. Returns None if the user interrupted the run.

    Args:
        plan: the run.
        engine: computes the cells.
        words: the command line. After an interrupt, the command that resumes the run is printed.
        console: where to print.
        attached: whether this command watches a run that another command started.
    """
    columns = (Description(), BarColumn(), MofNCompleteColumn())
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
                say(console, f"jobs submitted; {engine.attaching()}")
            pace.update(status, len(results))
            if engine.detachable or status.running > 1:  # a cell in another process does not report its stages
                failed = sum(not result.ok for result in results.values())
                progress.update(stage, description=pace.text(len(results), failed), total=None)

        try:
            executor, machine = Executor(plan, report), None
            if engine.detachable:
                machine = RunFolder(plan.run).machine()
                adopt(executor, machine)
                for name in ("SIGHUP", "SIGTERM"):  # closing the terminal has the effect of Ctrl-C
                    signal.signal(getattr(signal, name), signal.default_int_handler)
            require_same_configuration(executor, is_machine_known=machine is not None or not engine.detachable)
            engine.prepare(executor)
            executor.check(references=not engine.detachable)
            pace = Eta(len(plan.cells), estimate.work(executor.outcomes) if engine.detachable else None)
            for index, result in engine.run(executor, watch):
                results[index] = result
                progress.advance(cells)
                done = line(len(results), plan, plan.cells[index].name, result)
                say(progress.console, *done)
        except KeyboardInterrupt:
            progress.stop()
            rest = without(words, plan.run.force, "--force")  # or finished cells are computed a third time
            if leave(engine, console) if engine.begun and engine.detachable else attached:
                left = f"the run continues; {engine.attaching() or 'no job was cancelled'}. Watch it again:"
                again = f"  python run_bench.py {joined([*without(rest, False, '--attach'), '--attach'])}"
                say(console, f"{left}\n{again}")
                return None
            count = f"{len(results)} of {len(plan.cells)} cells"
            stopped = f"stopped after {count}; the store keeps every finished stage. Resume:"
            again = f"  python run_bench.py {joined(without(rest, attached, '--attach'))}"
            say(progress.console, f"{stopped}\n{again}")
            return None
    minutes = (time.perf_counter() - began) / 60
    ordered = [executor.outcomes.relabel(plan.cells[i], results[i]) for i in sorted(results)]
    return executor, ordered, minutes


def without(words: Sequence[str], given: bool, switch: str) -> list[str]:
    """The words of a command without a switch.

    Args:
        words: the command line.
        given: whether the switch is on. If it is on and not among the words, it comes from a --config file, and the
            opposite switch is added.
        switch: name of the switch.
    """
    rest = [word for word in words if word != switch]
    return [*rest, switch.replace("--", "--no-", 1)] if given and len(rest) == len(words) else rest


def leave(engine: Engine, console: Console) -> bool:
    """Ask whether the jobs of the engine shall continue, and cancel them if not. Without an answer they continue.

    Returns whether they continue.
    """
    try:
        answer = console.input("\nleave the jobs running? [Y/n] ", markup=False) if console.is_interactive else ""
    except (EOFError, KeyboardInterrupt):
        answer = ""
    if answer.strip().lower() not in ("n", "no"):
        return True
    engine.cancel()
    return False


def line(done: int, plan: Plan, name: str, result: CellResult) -> tuple[str | tuple[str, str], ...]:
    """One line about a finished cell, in parts: texts, and pairs of a text and its style."""
    head = f"[{done}/{len(plan.cells)}]".rjust(8)
    if not result.ok:
        where = f" ({result.traceback})" if result.traceback else ""
        return f"{head} {printable(name)}: ", (result.reason, "red"), where
    figures = "  ".join(
        f"{metric.name} {tables.scaled(metric, score.value):.{metric.column.digits}f}"
        for metric in terminal.in_table(plan.metrics)
        if (score := result.scores[metric.name])
    )
    return (f"{head} {printable(name)}: {figures}",)
