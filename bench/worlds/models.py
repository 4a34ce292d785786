"""The weights that worlds of photographs need: which of them are on this machine, and how to get the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.worlds import inception

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Need:
    """One set of weights.

    Args:
        what: the model and its purpose.
        there: whether the weights are on this machine.
        how: the path of the weights, or how to get them.
    """

    what: str
    there: bool
    how: str


def features(data: Path) -> Need:
    """Inception's weights. The function looks for them in the data folder and in torch's cache."""
    import torch

    cached = Path(torch.hub.get_dir()) / "checkpoints" / inception.FILE
    found = inception.weights(data) or (str(cached) if cached.is_file() else None)
    how = f"91 MB, at first use; or {inception.URL} as {data / 'inception' / inception.FILE}"
    return Need("Inception, for FID and KID", found is not None, found or how)


def on_hub(what: str, repository: str, files: Sequence[str], size: str) -> Need:
    """Weights that are downloaded from the Hugging Face hub at their first use.

    Args:
        what: the model and its purpose.
        repository: the hub repository, "ORG/NAME".
        files: file names. The weights are on this machine if the hub's cache contains one of these files.
        size: the size of the download, as text.
    """
    from huggingface_hub import try_to_load_from_cache

    for file in files:
        found = try_to_load_from_cache(repository, file)
        if isinstance(found, str):
            return Need(what, True, found)
    return Need(what, False, f"{size}, at first use; without a network, first: hf download {repository}")


def show(needs: Sequence[Need], console: Console) -> None:
    """Print a table of the weights."""
    from rich import box
    from rich.table import Table

    from bench.core.text.terminal import Plain

    table = Table("weights", "state", box=box.SIMPLE_HEAD)
    table.add_column("where, or how they come", overflow="fold")
    for need in needs:
        table.add_row(*map(Plain, (need.what, "there" if need.there else "to come", need.how)))
    console.print(table)
