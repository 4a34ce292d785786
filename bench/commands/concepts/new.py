"""The command `new-concepts`: writes a first draft of a file of concepts."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bench.backbones.locate import locate
from bench.commands import arguments
from bench.core.config import RunConfig
from bench.core.store import output_files
from bench.core.text.shell import joined
from bench.core.text.terminal import say
from bench.worlds.own import concept_file, defaults, suggestions, words
from bench.worlds.text_closeness import TextCloseness

KEEP, OTHERS, MOST = 8, 4, 100
ABOUT = """\
Write a file for --concepts: the concepts to forget, near neighbours that must stay,
and words of another kind. The neighbours are the words that the backbone's text
encoder finds closest, out of the names of ImageNet's 1000 classes and of painters;
for --backbone pocket out of the pocket world's words. Edit the file before you run
it."""
EPILOG = """\
examples:
  python run_bench.py new-concepts mine.yaml --forget "Van Gogh" --backbone sd15
  python run_bench.py new-concepts mine.yaml --forget tulip --backbone pocket --keep 4"""


def add_flags(p: argparse.ArgumentParser) -> None:
    """Add the flags of `new-concepts`."""
    p.add_argument("file", metavar="FILE", type=Path, help="the file to write, e.g. mine.yaml")
    number = arguments.whole_number(1, MOST)
    p.add_argument(
        "--keep", metavar="N", type=number, default=KEEP, help=f"number of near neighbours (default: {KEEP})"
    )
    p.add_argument("--replace", action="store_true", default=False, help="replace a file that is there")
    arguments.add_flags(p, RunConfig, ("forget", "backbone", "backbone_config", "backbone_weights"))


def run(args: argparse.Namespace, given: Sequence[str], console: Console) -> int:
    """Write the file. Returns 0."""
    with arguments.refusing():
        run = arguments.run_config(args)
        if not run.forget:
            raise ValueError('new-concepts needs --forget CONCEPT, what the model is to forget: --forget "Van Gogh"')
        if run.backbone is None:
            raise ValueError("new-concepts needs --backbone, whose text encoder finds the neighbours: --backbone sd15")
        arguments.require_writable_file(args.file, "FILE", "mine.yaml")
        if args.file.exists() and not args.replace:
            raise ValueError(f"{args.file} is there already; give --replace, or another name")
        source = defaults.of_backbone(run.backbone).source
        folder = locate(source, run.backbone_config, run.backbone_weights, verified=source != run.backbone)
        closeness = TextCloseness(lambda: folder, lambda word: (word,))
        lists = words.lists_for(run.backbone)
        found = suggestions.suggest(run.forget, lists, closeness, args.keep, OTHERS)
        text = suggestions.text(found, run.backbone, str(args.file))
        concept_file.parse(args.file, text)  # a name may be one that a file of concepts can't have
    output_files.write({args.file: text})
    near = ", ".join(word for word, _ in found.neighbours)
    say(console, f"written: {args.file}; the nearest of {len(found.near.words)} words: {near}")
    say(console, f"edit it, then: python run_bench.py {joined(['--concepts', str(args.file)])} --methods mimmu salun")
    return 0
