"""What worlds of photographs need besides data: which weights lie ready, and how the others come."""

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
    """One set of weights: what for, whether it is there, and where it lies or how it comes."""

    what: str
    there: bool
    how: str


def features(data: Path) -> Need:
    """Inception's weights: in the data folder, in torch's cache, or still to come."""
    import torch

    cached = Path(torch.hub.get_dir()) / "checkpoints" / inception.FILE
    found = inception.weights(data) or (str(cached) if cached.is_file() else None)
    how = f"91 MB, at first use; or {inception.URL} as {data / 'inception' / inception.FILE}"
    return Need("Inception, for FID and KID", found is not None, found or how)


def on_hub(what: str, repository: str, files: Sequence[str], size: str) -> Need:
    """Weights that come from the Hugging Face hub at first use, if its cache has none of `files` yet."""
    from huggingface_hub import try_to_load_from_cache

    for file in files:
        found = try_to_load_from_cache(repository, file)
        if isinstance(found, str):
            return Need(what, True, found)
    return Need(what, False, f"{size}, at first use; without a network, first: hf download {repository}")


def show(needs: Sequence[Need], console: Console) -> None:
    """A table of them."""
    from rich import box
    from rich.table import Table

    table = Table("weights", "state", box=box.SIMPLE_HEAD)
    table.add_column("where, or how they come", overflow="fold")
    for need in needs:
        table.add_row(need.what, "there" if need.there else "to come", need.how)
    console.print(table)
