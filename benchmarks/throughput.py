"""Measures the overhead of Lethe as ratios within one run: `python -m benchmarks.throughput`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence

import torch
from rich.console import Console
from rich.table import Table

from bench.worlds import WORLDS
from benchmarks import evaluating, rows, runs
from benchmarks.rows import Setting
from benchmarks.timing import Line, machine

ROWS: dict[str, Callable[[Setting], list[Line]]] = {
    "step": rows.harness_step,
    "sampling": rows.sampling,
    "batching": rows.batching,
    "attention": rows.attention,
    "evaluating": evaluating.evaluating,
    "memory": runs.peaks,
    "adding": runs.adding,
    "start": runs.starting,
    "sharing": runs.sharing,
}
COLUMNS = ("row", "what", "measured", "goal", "behind it")
EPILOG = """rows:
{rows}

A ratio compares two ways of doing the same work, by turns in the same process, so it holds on a busy machine better
than a time does; its spread over the rounds stands beside it. Goals are for an idle machine, and nothing fails where
one is missed. examples:
  python -m benchmarks.throughput --only step sampling
  python -m benchmarks.throughput --only step sampling batching evaluating memory --markdown
  python -m benchmarks.throughput --rounds 9 --markdown
"""


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    about = "\n".join(f"  {name:10}{(row.__doc__ or '').splitlines()[0]}" for name, row in ROWS.items())
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.throughput",
        description="What Lethe itself costs on the pocket world; some eight minutes on two idle cores.",
        epilog=EPILOG.format(rows=about),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--only", nargs="+", choices=tuple(ROWS), metavar="ROW", help="default: all of them")
    p.add_argument("--rounds", type=int, default=5, help="how often each side is timed (default: %(default)s)")
    p.add_argument("--threads", type=int, default=1, help="of torch, as a worker has them (default: %(default)s)")
    p.add_argument("--markdown", action="store_true", help="print the table as a document has it")
    return p


def measure(setting: Setting, names: Sequence[str], say: Callable[[str], object] = print) -> list[Line]:
    """The lines of the rows `names`. `say` is called with the name of each row."""
    lines = []
    for name in names:
        began = time.perf_counter()
        lines += ROWS[name](setting)
        say(f"{name}: {time.perf_counter() - began:.0f} s")
    return lines


def markdown(lines: Sequence[Line], about: str) -> str:
    """The table for a document, with the machine below it."""
    head = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    return "\n".join([*head, *("| " + " | ".join(line.texts()) + " |" for line in lines), "", about])


def table(lines: Sequence[Line], about: str) -> Table:
    """The table for a terminal."""
    made = Table(*COLUMNS, caption=about)
    for line in lines:
        style = {None: "", True: "green", False: "red"}[line.met]
        row, what, measured, goal, note = line.texts()
        made.add_row(row, what, f"[{style}]{measured}[/]" if style else measured, goal, note)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print the table."""
    args = parser().parse_args(argv)
    if args.rounds < 1 or args.threads < 1:
        parser().error("--rounds and --threads must be at least 1")
    torch.set_num_threads(args.threads)
    setting = Setting(WORLDS.get("pocket"), rounds=args.rounds)
    about = machine(setting.backbone.dtype)
    lines = measure(setting, args.only or tuple(ROWS), lambda said: print(said, file=sys.stderr))
    print(markdown(lines, about)) if args.markdown else Console().print(table(lines, about))
    return 0


if __name__ == "__main__":
    sys.exit(main())
