"""The GPUs of this machine, and which worker process gets which of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

VISIBLE = "CUDA_VISIBLE_DEVICES"  # the GPUs that CUDA shows to a process: indices or UUIDs, separated by commas
MIG = "MIG-"  # how the UUID of an instance of a partitioned GPU begins


@dataclass(frozen=True)
class Card:
    """A GPU for a worker process.

    Args:
        name: what CUDA_VISIBLE_DEVICES calls it: an index, the UUID of a GPU, or the UUID of a MIG instance.
        kind: the name of its model, which is in cache keys.
    """

    name: str
    kind: str

    def take(self) -> None:
        """Let CUDA show this card alone to this process. Call it before anything in this process asks for a GPU.

        Raises RuntimeError if CUDA has already started here, and if the card is of another kind than `kind`. Then the
        results would not be comparable with those of the other workers.
        """
        if torch.cuda.is_initialized():
            raise RuntimeError("CUDA has started before this worker had its GPU")
        os.environ[VISIBLE] = self.name
        if (found := torch.cuda.get_device_name()) != self.kind:
            raise RuntimeError(
                f"GPU {self.name} is of another kind ({found}) than the run's ({self.kind}), so the results would not "
                f"be comparable: name GPUs of one kind in {VISIBLE}"
            )


def names(environ: Mapping[str, str], visible: int) -> tuple[str, ...]:
    """The GPUs that CUDA shows to this process, as CUDA_VISIBLE_DEVICES calls them.

    CUDA shows only the first MIG instance of a list to a process, but each instance of the list can have a process.

    Args:
        environ: the environment variables of this process.
        visible: the number of GPUs that CUDA shows to this process.

    Example:
        >>> names({}, 2), names({"CUDA_VISIBLE_DEVICES": "3,GPU-5a"}, 2), names({"CUDA_VISIBLE_DEVICES": "3"}, 0)
        (('0', '1'), ('3', 'GPU-5a'), ())
        >>> names({"CUDA_VISIBLE_DEVICES": "MIG-1c,MIG-2d"}, 1)
        ('MIG-1c', 'MIG-2d')
    """
    if VISIBLE not in environ or not visible:
        return tuple(map(str, range(visible)))
    named = [name.strip() for name in environ[VISIBLE].split(",")]
    if named[0].startswith(MIG):
        return tuple(dict.fromkeys(name for name in named if name.startswith(MIG)))
    return tuple(named[:visible])  # CUDA ignores what follows a name that it does not know


def cards() -> tuple[Card, ...]:
    """The GPUs that this run may use: those that are of the same kind as the first, on which one process would run.

    Cache keys contain the kind of GPU, and boards never mix kinds. The kind of further MIG instances is not known here;
    `Card.take` checks it.
    """
    visible = torch.cuda.device_count() if torch.cuda.is_available() else 0
    kinds = [torch.cuda.get_device_name(index) for index in range(visible)]
    found = names(os.environ, visible)
    kinds += kinds[:1] * (len(found) - visible)  # of MIG instances, CUDA shows one
    return tuple(Card(name, kind) for name, kind in zip(found, kinds, strict=False) if kind == kinds[0])


def in_turn(cards: Sequence[Card], count: int) -> tuple[Card | None, ...]:
    """The card of each of `count` workers: the cards take turns. None for each worker if there is no card.

    Example:
        >>> [card.name for card in in_turn([Card("0", "A100"), Card("1", "A100")], 3)]
        ['0', '1', '0']
        >>> in_turn([], 2)
        (None, None)
    """
    return tuple(cards[worker % len(cards)] if cards else None for worker in range(count))
