"""The entry point of the command line: it finds the command, parses its flags and runs it."""

from __future__ import annotations

import argparse
import errno
import importlib
import io
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType

from rich.console import Console

from bench.commands import arguments
from bench.core.registry import nearest
from bench.core.store.output_files import CannotWrite
from bench.core.text.printable import ERRORS, printable_lines, takes_ascii_alone
from bench.core.text.streams import let_output_leave, lost_output
from bench.core.text.terminal import say
from bench.engines.base import CannotStart
from bench.plan.plugin_checks import InvalidEntry
from bench.worlds import WorldUnavailable

WIDTH = 120  # columns of text if the output is not a terminal
OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
REFUSED_BY_SYSTEM = (  # errors of a disk or of permissions, which say what is wrong in their own words
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO),
    *(errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR),
)


@dataclass(frozen=True)
class Command:
    """One command of the program.

    Args:
        about: one line for the list of commands.
        module: name of the module in bench.commands. It defines `add_flags(parser)`, and it is imported only when the
            command is given.
        run: name of the module's function (args, words, console) -> exit code.
        text: name of the module's text for `--help`.
        usage: the words after the command's name.
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
    "collect": Command("write the tables and the report from the results in the store", "run", "collect", "COLLECT"),
    "export": Command(
        "write the model of a finished cell, as a diffusers folder", "export", usage="CELL --to DIR [FLAG ...]"
    ),
    "prepare": Command("get and check the data sets of a world", "prepare", usage="WORLD --data DIR [FLAG ...]"),
    "new-concepts": Command(
        "write a draft of a file for --concepts, with near neighbours to keep",
        "concepts.new",
        usage="FILE --forget CONCEPT ... --backbone MODEL [FLAG ...]",
    ),
    "strip": Command(
        "draw stored images of several methods side by side",
        "picture_strip",
        usage="--task TASK --show CONCEPT ... --to FILE [FLAG ...]",
    ),
    "tune": Command("search the learning rate of every method, on targets that are on no board", "tune"),
    "pack": Command(
        "write the finished results of a run into one file, for other people",
        "results_archive",
        text="TEXT",
        usage="--to FILE [FLAG ...]",
    ),
    "gap": Command(
        "compare each method with a model that was trained without the concept", "oracle_gap", usage="FILE [FLAG ...]"
    ),
}

DESCRIPTION = """\
Which method removes a concept from a text-to-image diffusion model, and only
that concept?

Each method makes the model forget each target of a suite. Classifiers then judge
the images of the changed model: images of the forgotten concept, of its neighbours
and of other concepts. The board compares the methods with the pretrained model and
with a ruined model."""

EPILOG = """\
examples:
  the board of the README, and a small version of it
    python run_bench.py --methods mimmu salun --suite finegrained
    python run_bench.py --methods mimmu salun --quick
  check that the installation works, in seconds
    python run_bench.py --methods mimmu --suite smoke --out trial
  change settings, train with several seeds, choose methods and metrics
    python run_bench.py --methods mimmu --set mimmu.lr=1e-4 --seeds 3
    python run_bench.py --methods 'esd*' --metrics ua nra 'pid_*'
  read settings from a file; flags of the command line override the file
    python run_bench.py --config run.yaml --seeds 3
  forget several concepts at once; forget them one after another; train further
    python run_bench.py --methods all --suite multi --k 2 4
    python run_bench.py --methods mimmu --suite sequential --forget toucan tulip
    python run_bench.py --methods mimmu salun --suite resurgence
  compare several values of a setting
    python run_bench.py --methods mimmu --sweep mimmu.t_max=300,600,950
  run a method from your own file
    python run_bench.py --plugin mine.py --methods mine
  list the methods; list the cells of a run and the estimated time
    python run_bench.py ls methods
    python run_bench.py plan --methods all
  run on a cluster with one cell per job; watch a run after its command ended
    python run_bench.py --methods all --executor slurm --slurm partition=gpu,gpus=1
    python run_bench.py --methods all --executor slurm --slurm partition=gpu,gpus=1 --attach
    python run_bench.py --methods all --executor ray --ray-address auto
  Stable Diffusion on photographs of dogs, flowers and birds
    python run_bench.py prepare natural --data ~/data
    python run_bench.py --world natural --backbone sd15 --data ~/data
  concepts of your own: draft a file, edit it, run it
    python run_bench.py new-concepts mine.yaml --forget "Van Gogh" --backbone sd15
    python run_bench.py --concepts mine.yaml --backbone sd15 --methods mimmu salun
  write the model without tulips as a diffusers folder
    python run_bench.py export "mimmu/tulip" --to tulip-free

The store, DIR/.store of --out, keeps finished work. After Ctrl-C, give the same
command again to continue the run. To add a method or a metric, give the command
with the new name: only the new work is computed.

`python run_bench.py COMMAND --help` lists the flags of a command. `lethe` is the
same program.

exit codes:
  0    everything is finished
  1    a cell failed or is missing (the board says which; the other cells are valid),
       data of a world are missing (`prepare` says which), or the disk is full
  2    the command can't be run with these words; nothing was computed
  130  stopped by Ctrl-C
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0; 1 if a cell failed; 2 for wrong usage; 130 after Ctrl-C.

    Args:
        argv: the words after the program's name; None for those of this process.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    prepare_streams()
    try:
        code = run(words)
    finally:
        lost = lost_output()
    return FAILED if lost and code == OK else code


def run(words: Sequence[str]) -> int:
    """Run the command with these words, and return its exit code."""
    if words[:1] in (["-h"], ["--help"]):
        print(help_text())
        return OK
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    handler = logging.StreamHandler()
    handler.setFormatter(LogFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    try:
        with arguments.refusing():
            name, rest = split(words)
            args = arguments.parse(parser(name), rest)
        command: Callable[..., int] = getattr(COMMANDS[name].load(), COMMANDS[name].run)
        return command(args, words, console)
    except (arguments.CannotRun, CannotStart, WorldUnavailable, InvalidEntry) as error:
        say(console, ("error:", "red"), f" {error}")
        return USAGE
    except OSError as error:
        if not isinstance(error, CannotWrite) and error.errno not in REFUSED_BY_SYSTEM:
            raise
        said = error if isinstance(error, CannotWrite) else f"{error.filename or 'a file'}: {error.strerror}"
        say(console, ("error:", "red"), f" {said}; the store keeps every finished stage")
        return FAILED
    except KeyboardInterrupt:
        say(console, "stopped; the store keeps every finished stage")
        return INTERRUPTED


class LogFormatter(logging.Formatter):
    """Formats log records without characters that a terminal would obey."""

    def format(self, record: logging.LogRecord) -> str:
        """The text of the record."""
        return printable_lines(super().format(record))


def prepare_streams() -> None:
    """Let the standard streams write any text, and let the reader of the standard output go away.

    A character that the encoding of a stream lacks becomes an escape sequence.
    """
    let_output_leave()
    ascii_alone = takes_ascii_alone(os.environ)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="ascii" if ascii_alone else None, errors=ERRORS)


def split(words: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The name of the command and its words. The name is `run` if the first word is a flag or is missing.

    Raises ValueError if the first word is neither a command nor a flag.
    """
    if not words or words[0].startswith("-"):
        return "run", words
    if words[0] not in COMMANDS:
        raise ValueError(f"no command is called {words[0]!r}: {nearest(words[0], COMMANDS)}")
    return words[0], words[1:]


def parser(name: str = "run") -> argparse.ArgumentParser:
    """The parser of the command `name`."""
    command, module = COMMANDS[name], COMMANDS[name].load()
    p = arguments.parser(name, command.usage, getattr(module, command.text), getattr(module, "EPILOG", ""))
    module.add_flags(p)
    return p


def help_text() -> str:
    """The text of `python run_bench.py --help`: the program's purpose, its commands, examples and exit codes."""
    commands = "\n".join(f"  {name:12} {command.about}" for name, command in COMMANDS.items())
    usage = "usage: python run_bench.py [COMMAND] [FLAG ...]"
    return f"{usage}\n\n{DESCRIPTION}\n\ncommands:\n{commands}\n\n{EPILOG}"
