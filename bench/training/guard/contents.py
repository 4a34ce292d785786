"""The bytes of the tensors of some networks: which of them are other ones than before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

import torch

ROW = 1024  # words in a row: the sums over rows and over columns depend on where a word stands
WORD = 8  # bytes
FACTOR = 0x9E3779B97F4A7C15 - (1 << 64)  # odd, so that no product with it loses a bit; as int64


class Contents:
    """Checksums of the memory behind some tensors. No copy of the tensors is kept.

    The arithmetic is of whole numbers, so any change of one number changes the checksum.

    Args:
        tensors: tensor -> its name.
    """

    def __init__(self, tensors: Mapping[torch.Tensor, str]) -> None:
        self._names = {tensor: name for tensor, name in tensors.items() if tensor.device.type != "meta"}
        self._layouts = {tensor: _layout(tensor) for tensor in self._names}
        # other tensors on the same memory: a method may give a parameter other memory, and these still have the old one
        self._memory = {tensor: tensor.detach() for tensor in self._names}
        self._sums = _checksums(self._names)

    def changed(self) -> list[str]:
        """Names of the tensors whose contents, shape or dtype differ."""
        return [self._names[tensor] for tensor in self._differing()]

    @torch.no_grad()
    def restore(self) -> tuple[list[str], bool]:
        """Give each tensor its own memory back.

        Returns the names of the tensors that differed, and whether all of them are now as they were. They are not if
        the contents of their memory are lost.
        """
        differing = set(self._differing())
        lost = {t for t in differing if _checksums([self._memory[t]])[self._memory[t]] != self._sums[t]}
        for tensor, memory in self._memory.items():
            if tensor.data_ptr() != memory.data_ptr() or tensor in differing:
                if tensor not in differing:  # the same contents elsewhere
                    memory.copy_(tensor)
                tensor.data = memory
        return [name for tensor, name in self._names.items() if tensor in differing], not lost

    def _differing(self) -> list[torch.Tensor]:
        now = _checksums([tensor for tensor in self._names if _layout(tensor) == self._layouts[tensor]])
        return [tensor for tensor in self._names if now.get(tensor) != self._sums[tensor]]


def _layout(tensor: torch.Tensor) -> tuple[object, ...]:
    return tensor.dtype, tensor.device, tensor.shape, tensor.stride()


@torch.no_grad()
def _checksums(tensors: Iterable[torch.Tensor]) -> dict[torch.Tensor, int]:
    """The checksum of the memory of each tensor."""
    each = {tensor: _checksum(tensor) for tensor in tensors}
    devices: dict[torch.device, list[torch.Tensor]] = {}
    for tensor in each:
        devices.setdefault(tensor.device, []).append(tensor)
    found: dict[torch.Tensor, int] = {}
    for several in devices.values():  # one transfer for each device
        found |= dict(zip(several, torch.stack([each[tensor] for tensor in several]).tolist(), strict=True))
    return found


def _checksum(tensor: torch.Tensor) -> torch.Tensor:
    """The checksum of a tensor's numbers in the order of its memory, int64 (), on its device."""
    values = tensor.detach()
    if values.dim() == 4 and not values.is_contiguous():
        values = values.permute(0, 2, 3, 1)  # the channels are last in memory: the next line need not copy it
    memory = values.contiguous().view(-1).view(torch.uint8)
    if memory.storage_offset() % WORD:
        memory = memory.clone()  # a part of a larger memory, which can't be read in words
    whole = len(memory) // (ROW * WORD) * ROW * WORD
    words = memory[:whole].view(torch.int64).view(-1, ROW)
    rest = memory[whole:].to(torch.int64)
    return _weighted(words.sum(1)) + 3 * _weighted(words.sum(0)) + 5 * _weighted(rest)


def _weighted(numbers: torch.Tensor) -> torch.Tensor:
    """The sum of whole numbers, each times a factor that depends on its place, modulo 2^64."""
    return (numbers * _factors(1 << len(numbers).bit_length(), numbers.device)[: len(numbers)]).sum()


@lru_cache(maxsize=64)
def _factors(count: int, device: torch.device) -> torch.Tensor:
    return torch.arange(1, 2 * count, 2, dtype=torch.int64, device=device) * FACTOR
