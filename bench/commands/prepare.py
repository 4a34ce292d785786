"""The command `prepare`: downloads and checks the data sets of a world."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rich.console import Console

from bench.commands import arguments
from bench.core.config import RunConfig
from bench.core.text.terminal import say
from bench.plan import plugins
from bench.worlds import WORLDS

ABOUT = """\
Get and check the data sets of a world of photographs or paintings, and for canvas its
model and classifiers. For a file that can't be downloaded, the command prints the
folder in which to put it. The exit code is 1 if something is missing."""
EPILOG = """examples:
  python run_bench.py prepare natural --data ~/data
  python run_bench.py prepare canvas --data ~/unlearncanvas"""


def add_flags(p: argparse.ArgumentParser) -> None:
    """Add the flags of `prepare`."""
    p.add_argument("world", metavar="WORLD", help="the world, e.g. natural or canvas")
    arguments.add_flags(p, RunConfig, ("data", "plugins"))


def run(args: argparse.Namespace, words: Sequence[str], console: Console) -> int:
    """Prepare the world. Returns 0, or 1 if data are missing."""
    with arguments.refusing():
        run = arguments.run_config(args)
        plugins.load(run.plugins)
        world = WORLDS.get(args.world)
        if not world.needs_data:
            say(console, f"the world {args.world!r} needs no data: its data are part of Lethe")
            return 0
        if run.data is None:
            raise ValueError(f"prepare {args.world} needs --data DIR, the folder for its data sets")
        arguments.require_writable(run.data, "--data")
    return 0 if world.prepare(run.data, console) else 1
