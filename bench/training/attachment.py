"""What a method leaves to act while images are sampled, as it is stored beside the weights.

The entry of the weights of such a method has the fact "attached": the method, its version and settings, and the words
for the concepts that the task forgets. Tensors that `Method.attach` needs are stored with the changed weights, with a
prefix. Other methods have neither, so their entries and keys are the same as without this module.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch

from bench.backbones.pipeline import Backbone
from bench.core import digest
from bench.core.store import Entry
from bench.training.method import Method, MethodConfig

FACT = "attached"
PREFIX = "attached/"  # no parameter of a network has a slash in its name


def fact(name: str, config: MethodConfig, concepts: Sequence[str], stamp: Mapping[str, Any]) -> dict[str, Any]:
    """The fact about a method that acts while images are sampled.

    Args:
        name: the name of the method.
        config: the settings of the method.
        concepts: the words for the concepts that the task forgets.
        stamp: the version of the method and the contents of the files that it reads, as keys contain them.
    """
    return {FACT: digest.plain({"method": name, "config": config, "concepts": concepts, **stamp})}


@contextmanager
def entered(
    method: Method, backbone: Backbone, concepts: Sequence[str], tensors: Mapping[str, torch.Tensor]
) -> Iterator[None]:
    """Within the block, the method acts. Arguments as in `Method.attach`.

    Raises TypeError if `attach` returns no context manager.
    """
    acting = method.attach(backbone, tuple(concepts), tensors)
    if not isinstance(acting, AbstractContextManager):
        raise TypeError(f"attach of {type(method).__name__} returned {acting!r}; it must be a context manager")
    with acting:
        yield


def identity(weights: Entry | None) -> str:
    """What keys call a model: the digest of its changed tensors, combined with its attachment if it has one.

    "" for the untouched model: `weights` of None, or an entry without tensors and attachment.
    """
    if weights is None:
        return ""
    attached = weights.facts.get(FACT)
    return weights.content if attached is None else digest.of_json({"tensors": weights.content, FACT: attached})


def prefixed(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of `Method.tensors_to_attach` by the names that they are stored with."""
    return {f"{PREFIX}{name}": tensor for name, tensor in tensors.items()}


def split(tensors: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The stored tensors of a model as two mappings: those of the networks, and those of the attachment.

    >>> split({"conv_out.bias": torch.zeros(1), "attached/down": torch.ones(1)})
    ({'conv_out.bias': tensor([0.])}, {'down': tensor([1.])})
    """
    networks = {name: tensor for name, tensor in tensors.items() if not name.startswith(PREFIX)}
    return networks, {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items() if name not in networks}
