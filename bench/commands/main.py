"""The command line: finds the command, reads its flags and runs it."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType

from rich.console import Console
from rich.markup import escape

from bench.commands import arguments
from bench.core.registry import nearest
from bench.engines.base import CannotStart
from bench.worlds import WorldUnavailable

WIDTH = 120  # columns of text where no terminal says how wide it is
OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


@dataclass(frozen=True)
class Command:
    """One command of the program.

    Args:
        about: one line for the list of commands.
        module: in bench.commands; has `add_flags(parser)`. It is imported when the command is given.
        run: name of the module's function (args, words, console) -> exit code.
        text: name of the module's text for `--help`.
        usage: what follows the command's name.
    """

    about: str
    module: str
    run: str = "run"
    text: str = "ABOUT"
    usage: str = "[FLAG ...]"

    def load(self) -> ModuleType:
        """The module of the command."""
        return importlib.import_module(f"bench.commands.{self.module}")


COMMANDS = {
    "run": Command("compute a board (the default: the word `run` may be left out)", "run", "run", "RUN"),
    "plan": Command("list the cells, what is cached, and the estimated time; loads no model", "run", "plan", "PLAN"),
    "ls": Command("list the methods, suites, worlds, metrics or executors", "listing", usage="KIND [FLAG ...]"),
    "collect": Command("write the tables and the report from what the store has", "run", "collect", "COLLECT"),
    "export": Command(
        "write the model of a finished cell, as a diffusers folder", "export", usage="CELL --to DIR [FLAG ...]"
    ),
    "prepare": Command("get and check the data sets of a world", "prepare", usage="WORLD --data DIR [FLAG ...]"),
    "strip": Command(
        "draw pictures of several methods side by side, from the store",
        "picture_strip",
        usage="--task TASK --show CONCEPT ... --to FILE [FLAG ...]",
    ),
    "tune": Command("search the learning rate of every method, on targets that no board forgets", "tune"),
    "pack": Command(
        "write the finished results of a run into one file, to hand on",
        "results_archive",
        text="TEXT",
        usage="--to FILE [FLAG ...]",
    ),
    "gap": Command(
        "say how far each method is from a model that never saw the concept", "oracle_gap", usage="FILE [FLAG ...]"
    ),
}

DESCRIPTION = """\
Which method removes a concept from a text-to-image diffusion model, and only
that concept?

Each method forgets each target of a suite. What the changed model then draws is
judged: the forgotten concept, its neighbours, everything else. The board compares
the methods with the untouched model and with a ruined one."""

EPILOG = """\
examples:
  the board of the README, and a small version of it
    python run_bench.py --methods mimmu salun --suite finegrained
    python run_bench.py --methods mimmu salun --quick
  check that the installation works, in seconds
    python run_bench.py --methods mimmu --suite smoke --out /tmp/lethe
  other settings, several training seeds, some methods and metrics only
    python run_bench.py --methods mimmu --set mimmu.lr=1e-4 --seeds 3
    python run_bench.py --methods 'esd*' --metrics ua nra 'pid_*'
  the same settings in a file; the command line wins over the file
    python run_bench.py --config run.yaml --seeds 3
  forget several concepts at once, or one after another; does a concept return?
    python run_bench.py --methods all --suite multi --k 2 4
    python run_bench.py --methods mimmu --suite sequential --forget toucan tulip
    python run_bench.py --methods mimmu salun --suite resurgence
  compare several values of a setting
    python run_bench.py --methods mimmu --sweep mimmu.t_max=300,600,950
  a method in a file of your own
    python run_bench.py --plugin mine.py --methods mine
  list the methods; list the cells of a run and the estimated time
    python run_bench.py ls methods
    python run_bench.py plan --methods all
  run on a cluster, one cell a job; watch a run that went on without its command
    python run_bench.py --methods all --executor slurm --slurm partition=gpu,gpus=1
    python run_bench.py --methods all --executor slurm --slurm partition=gpu,gpus=1 --attach
    python run_bench.py --methods all --executor ray --ray-address auto
  Stable Diffusion on photographs of dogs, flowers and birds
    python run_bench.py prepare natural --data ~/data
    python run_bench.py --world natural --backbone sd15 --data ~/data
  write the model without tulips as a diffusers folder
    python run_bench.py export "mimmu/tulip" --to tulip-free

Whatever is finished is kept in the store, DIR/.store of --out. After Ctrl-C, or
to add a method or a metric, give the command again: it continues where it
stopped, and computes only what is new.

`python run_bench.py COMMAND --help` lists the flags of a command. `lethe` is the
same program.

exit codes:
  0    everything is finished
  1    a cell failed or is missing: the board says which, and the other cells stand;
       or data of a world is missing, and `prepare` said which
  2    the command can't be run as given; nothing was computed
  130  stopped by Ctrl-C
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns 0, 1 if a cell failed, 2 for bad usage, 130 after Ctrl-C."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] in (["-h"], ["--help"]):
        print(help_text())
        return OK
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        with arguments.refusing():
            name, rest = split(words)
            args = arguments.parse(parser(name), rest)
        command: Callable[..., int] = getattr(COMMANDS[name].load(), COMMANDS[name].run)
        return command(args, words, console)
    except (arguments.CannotRun, CannotStart, WorldUnavailable) as error:
        console.print(f"[red]error:[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
        return USAGE
    except KeyboardInterrupt:
        console.print("stopped; every finished stage is kept", highlight=False)
        return INTERRUPTED


def split(words: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The name of a command and its words; `run` where no command is named.

    Raises ValueError for a first word that is neither a command nor a flag.
    """
    if not words or words[0].startswith("-"):
        return "run", words
    if words[0] not in COMMANDS:
        raise ValueError(f"no command is called {words[0]!r}: {nearest(words[0], COMMANDS)}")
    return words[0], words[1:]


def parser(name: str = "run") -> argparse.ArgumentParser:
    """The parser of one command."""
    command, module = COMMANDS[name], COMMANDS[name].load()
    p = arguments.parser(name, command.usage, getattr(module, command.text), getattr(module, "EPILOG", ""))
    module.add_flags(p)
    return p


def help_text() -> str:
    """The text of `python run_bench.py --help`: what the program is for, its commands, examples and exit codes."""
    commands = "\n".join(f"  {name:8} {command.about}" for name, command in COMMANDS.items())
    usage = "usage: python run_bench.py [COMMAND] [FLAG ...]"
    return f"{usage}\n\n{DESCRIPTION}\n\ncommands:\n{commands}\n\n{EPILOG}"
