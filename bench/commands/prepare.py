"""The command `prepare`: bring what a world needs into a folder, and say what is missing."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rich.console import Console

from bench.commands import arguments
from bench.core.config import RunConfig
from bench.plan import plugins
from bench.worlds import WORLDS

ABOUT = """\
Get and check the data sets of a world of photographs or paintings. What can't be
downloaded is named, with the place to put it. The exit code is 1 if something is
missing."""
EPILOG = "example:\n  python run_bench.py prepare natural --data ~/data"


def add_flags(p: argparse.ArgumentParser) -> None:
    """The flags of `prepare`."""
    p.add_argument("world", metavar="WORLD", help="the world, e.g. natural or canvas")
    arguments.add_flags(p, RunConfig, ("data", "plugins"))


def run(args: argparse.Namespace, words: Sequence[str], console: Console) -> int:
    """Prepare the world: 0, or 1 where something is missing."""
    with arguments.refusing():
        run = arguments.run_config(args)
        plugins.load(run.plugins)
        world = WORLDS.get(args.world)
        if not world.needs_data:
            console.print(f"the world {run.world!r} needs no data: it brings its own", highlight=False)
            return 0
        if run.data is None:
            raise ValueError(f"prepare {run.world} needs --data DIR, the folder for its data sets")
    return 0 if world.prepare(run.data, console) else 1
