"""The command behind a board as other people may read it: no folder of the machine that ran it is in it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from bench.backbones import locate
from bench.commands import arguments
from bench.core.config import RunConfig
from bench.core.filenames import last_part, without_folders

DATA = Path("DIR")  # in place of the folder of data, of which everybody has another


def command(run: RunConfig) -> str:
    """The command that makes the board of `run`, with names of files and of backbones in place of paths.

    Where the board is written is left out, and so is --force.
    """
    return arguments.command(
        dataclasses.replace(
            run,
            backbone=run.backbone and _backbone(run.backbone),
            backbone_config=run.backbone_config and _backbone(run.backbone_config),
            data=run.data and DATA,
            judges=tuple(without_folders(judge) for judge in run.judges),
            clip=run.clip and without_folders(run.clip, model=True),
            plugins=tuple(Path(last_part(str(file))) for file in run.plugins),
            overrides={
                section: {name: without_folders(text) for name, text in texts.items()}
                for section, texts in run.overrides.items()
            },
            sweep={
                section: {name: tuple(map(without_folders, texts)) for name, texts in fields.items()}
                for section, fields in run.sweep.items()
            },
            out=RunConfig().out,
            force=False,
        )
    )


def _backbone(source: str) -> str:
    """Its name or hub id, or the last part of its path: whatever names a folder that is there is a path."""
    return last_part(source) if locate.is_path(source) else without_folders(source)
