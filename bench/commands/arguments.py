"""The flags that several commands share, and the conversion of parsed words to a run."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from bench.backbones.folder import LARGE_BATCH, LARGE_BATCH_SIDE
from bench.backbones.locate import NAMES
from bench.commands import config_file
from bench.core import flags
from bench.core.config import HOW, RunConfig
from bench.core.registry import nearest
from bench.core.text.printable import printable_lines
from bench.core.text.shell import joined
from bench.engines import Settings
from bench.suites import SUITES

# flag of an earlier release -> the command that replaces it
REPLACED = {
    "--plan": "the command `plan`: python run_bench.py plan --methods ...",
    "--list": "the command `ls`: python run_bench.py ls methods",
    "--collect": "the command `collect`: python run_bench.py collect --methods ...",
    "--export": "the command `export`: python run_bench.py export METHOD/TASK --to DIR",
    "--prepare": "the command `prepare`: python run_bench.py prepare WORLD --data DIR",
}


HYPHEN = "; a value that begins with a hyphen is written --FLAG=VALUE"


class CannotRun(ValueError):
    """A command can't be run with the given words. The message says why."""


@contextmanager
def refusing() -> Iterator[None]:
    """Raise CannotRun if the block raises ValueError or OSError, because the user can correct these errors."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise CannotRun(str(error)) from error


def pairs(text: str) -> dict[str, str]:
    """The names and values in a text such as "partition=gpu,exclude=n1,n2,exclusive=".

    A part without "=" continues the value before it. Raises ValueError if a name is missing or given twice.
    """
    found: dict[str, str] = {}
    for part in text.split(","):
        name, given, value = part.strip().partition("=")
        name = name.strip().removeprefix("--")
        if not given and found and name:
            last = next(reversed(found))
            found[last] = f"{found[last]},{name}"
        elif not given or not name or name in found:
            raise ValueError(f"{text} must have the form NAME=VALUE,NAME=VALUE, with each name once")
        else:
            found[name] = value.strip()
    return found


def write_pairs(options: dict[str, str]) -> tuple[str, ...]:
    """The word from which `pairs` makes `options`."""
    return (",".join(f"{name}={value}" for name, value in options.items()),)


def at_least_one(text: str) -> int:
    """The whole number in `text`. Raises ValueError unless it is at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"must be a whole number, at least 1, not {text}")
    return int(text)


@dataclass(frozen=True)
class Spread:
    """Where and how the cells of a run are computed. Results do not depend on these settings."""

    workers: int | None = flags.flag(
        None, "cells to run in parallel (default: one per CPU core up to 4, or one per GPU; no limit on a cluster); "
        "on GPUs, workers take turns in getting one", HOW, metavar="N", parse=at_least_one,
    )  # fmt: skip
    executor: str = flags.flag(
        "local", "where cells run: on this machine (local), or on a cluster whose nodes see the folder --out "
        "(slurm, ray; docs/run-on-a-cluster.md) (default: {default})", HOW, metavar="NAME",
    )  # fmt: skip
    slurm: dict[str, str] = flags.flag(
        {}, "options of sbatch, e.g. partition=gpu,time=4:00:00,gpus=1; cells=N is the number of cells per job", HOW,
        metavar="K=V,...", parse=pairs, write=write_pairs,
    )  # fmt: skip
    ray_address: str | None = flags.flag(
        None, 'address of a Ray cluster\'s head, or "local" (default: "auto")', HOW, metavar="HOST:PORT"
    )
    ray: dict[str, str] = flags.flag(
        {}, "resources of a cell, e.g. num_gpus=0.5,num_cpus=4 (default: one GPU if the cluster has GPUs, else a core)",
        HOW, metavar="K=V,...", parse=pairs, write=write_pairs,
    )  # fmt: skip
    retries: int = flags.flag(
        1, "how often to try a cell again if its worker or machine fails (default: {default})", HOW,
        metavar="N", parse=int,
    )  # fmt: skip
    attach: bool = flags.flag(
        False, "watch a run that continues on a cluster after its command ended", HOW, switch=True
    )
    results: tuple[Path, ...] = flags.flag(
        (), "put the results of other people into the store, from files that the command `pack` wrote", HOW,
        metavar="FILE", many=True, parse=Path,
    )  # fmt: skip

    def settings(self) -> Settings:
        """The settings of the engine. Raises ValueError if a flag of a cluster is given without its executor."""
        given = {
            "slurm": self.slurm,
            "ray": {**self.ray, **({"address": self.ray_address} if self.ray_address else {})},
        }
        for name, options in given.items():
            if options and self.executor != name:
                raise ValueError(f"--{name}{'-address' * (options.keys() == {'address'})} goes with --executor {name}")
        if self.retries < 0:
            raise ValueError(f"--retries must be at least 0, not {self.retries}")
        return Settings(self.workers, self.retries, self.attach, given.get(self.executor, {}))


def require_writable(folder: Path, flag: str = "--out") -> None:
    """Raise ValueError unless files can be written below `folder`, which need not exist. No file is left there."""
    if "\0" in str(folder):
        raise ValueError(f"{flag} {folder}: a path can't contain the character NUL")
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise ValueError(f"{flag} {folder}: {there} is a file, not a folder")
    try:
        tempfile.TemporaryFile(dir=there).close()  # root passes every check of permissions, but may fail to write
    except OSError as error:
        raise ValueError(f"{flag} {folder}: the folder {there} is not writable ({error.strerror})") from None


def require_writable_file(file: Path, flag: str, example: str) -> None:
    """Raise ValueError unless a file can be written at the path `file`, the value of `flag`."""
    if file.is_dir():
        raise ValueError(f"{flag} {file}: this is a folder; name a file, e.g. {example}")
    require_writable(file.absolute().parent, flag)


class Parser(argparse.ArgumentParser):
    """A parser whose messages show the words of the user as they are."""

    def error(self, message: str) -> NoReturn:
        """Print the message, and how to write a value that looks like a flag, and end the program."""
        super().error(printable_lines(message) + (HYPHEN if "expected" in message else ""))


def parser(command: str, usage: str, about: str, epilog: str = "") -> argparse.ArgumentParser:
    """A parser for one command. It has no flags yet.

    Args:
        command: name of the command.
        usage: the words after the command's name.
        about: description for `--help`.
        epilog: text below the flags.
    """
    return Parser(
        prog=f"run_bench.py {command}",
        usage=f"python run_bench.py {command} {usage}",
        description=about,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,  # so that a file's values are told from defaults
    )


def add_run(p: argparse.ArgumentParser, spread: bool = False) -> None:
    """Add the flags that describe a run. If `spread`, also add those that say where cells are computed."""
    p.add_argument(
        "--config", type=typed(Path), metavar="FILE", default=None,
        help="a YAML file with flags by name; the command line wins over it (docs/command-line.md)",
    )  # fmt: skip
    add_flags(p, RunConfig)
    if spread:
        add_flags(p, Spread)


def add_flags(
    p: argparse.ArgumentParser,
    cls: type,
    names: Collection[str] | None = None,
    usual: Mapping[str, Any] | None = None,
) -> None:
    """Add the flags of the dataclass `cls`, in their groups.

    Args:
        p: the parser.
        cls: the class with the flags.
        names: the fields whose flags to add; None for all.
        usual: field -> default for `--help`, for commands whose default differs from that of the class.
    """
    defaults = {**flags.defaults_of(cls), **(usual or {})}
    groups = {group.title: group for group in p._action_groups}
    for name, flag in flags.flags_of(cls).items():
        if names is not None and name not in names:
            continue
        if flag.group not in groups:
            groups[flag.group] = p.add_argument_group(flag.group)
        default = " ".join(flag.write(defaults[name])) if defaults[name] is not None else ""
        text = flag.help.format(default=default, **_facts()).replace("%", "%%")
        if flag.switch:
            groups[flag.group].add_argument(
                flag.option, dest=name, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=text
            )
            continue
        more: dict[str, Any] = {"nargs": "+", "action": "extend"} if flag.many else {}
        groups[flag.group].add_argument(
            flag.option, dest=name, type=typed(flag.parse), metavar=flag.metavar, choices=flag.choices,
            default=argparse.SUPPRESS, help=text, **more,
        )  # fmt: skip


def _facts() -> dict[str, str]:
    """Values for the placeholders in help texts that bench.core can't know."""
    built_in = [SUITES.get(name) for name in SUITES.names() if not SUITES.package(name)]  # others may fail to import
    curves = [f"{suite.curve} for the suite {suite.name}" for suite in built_in if suite.curve]
    batches = f"{LARGE_BATCH} of up to {LARGE_BATCH_SIDE} pixels a side, 16 of 512"
    return {"backbones": ", ".join(NAMES), "curves": ", ".join(curves), "batches": batches}


def typed(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """`parse` for argparse: argparse shows the message of an ArgumentTypeError, but not of a ValueError."""

    def convert(text: str) -> Any:
        try:
            value = parse(text)
        except ValueError as error:
            kind = {int: "a whole number", float: "a number"}.get(parse)  # type: ignore[call-overload]
            raise argparse.ArgumentTypeError(f"must be {kind}, not {text!r}" if kind else str(error)) from error
        if not text.strip():  # such as a variable of the shell that is not set
            raise argparse.ArgumentTypeError(f"must not be empty, but is {text!r}")
        return value

    return convert


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """A parser for argparse of whole numbers within `least`..`most`."""

    def parse(text: str) -> int:
        if not text.strip().isdecimal() or not least <= int(text) <= most:
            raise ValueError(f"must be a whole number within {least}..{most}, not {text!r}")
        return int(text)

    return typed(parse)


def parse(p: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """The parsed values of `words` and of the --config file, if any. Raises ValueError or OSError."""
    given, unknown = p.parse_known_args(words)
    if unknown:
        p.error(_unknown(unknown, [option for action in p._actions for option in action.option_strings]))
    if (file := getattr(given, "config", None)) is None:
        return given
    # every command accepts a file with the flags of Spread, also a command that does not use them
    said = config_file.parse(file, {**flags.flags_of(RunConfig), **flags.flags_of(Spread)})
    return argparse.Namespace(**{**said, **vars(given)})


def _unknown(words: Sequence[str], known: Sequence[str]) -> str:
    """The message about unknown words: the command that replaces an old flag, or the nearest flag."""
    flags = [word.partition("=")[0] for word in words if word.startswith("-")]
    if replaced := [flag for flag in flags if flag in REPLACED]:
        return f"{replaced[0]} is now {REPLACED[replaced[0]]}"
    hint = f"; {nearest(flags[0], known)}" if flags else ""
    return f"unrecognized arguments: {joined(words)}{hint}{HYPHEN if flags else ''}"


def run_config(args: argparse.Namespace) -> RunConfig:
    """The run that parsed words describe. Raises ValueError for an invalid setting."""
    return flags.from_values(RunConfig, vars(args))


def spread(args: argparse.Namespace) -> Spread:
    """The settings in parsed words of where and how cells are computed."""
    return flags.from_values(Spread, vars(args))
