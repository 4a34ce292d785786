"""What a GPU would have had to do: launches, waits and bytes. It also holds copies that have not arrived yet."""

from __future__ import annotations

import sys
import weakref
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import torch

BLOCK = 512  # bytes; the allocator of CUDA rounds each size up to a multiple
HERE = str(Path(__file__).parent)
LIBRARIES = f"{sys.prefix}/"  # the environment may lie in the folder of the code
ELSEWHERE = "elsewhere"  # the line of a wait that no file within `home` caused


@dataclass
class Account:
    """What a GPU would have had to do.

    Args:
        home: folder of the code whose lines are charged with waits. A wait in a library is charged to the innermost
            line within `home` that called the library.

    Attributes:
        launches: operation -> number of launches on the device. Views launch nothing.
        waits: (line, reason) -> how often the host waited for the device there. The line is "path:number" from `home`.
        now: bytes of the live tensors on the device, each rounded up to a multiple of BLOCK.
        peak: the largest value of `now`.
    """

    home: Path
    launches: Counter[str] = field(default_factory=Counter)
    waits: Counter[tuple[str, str]] = field(default_factory=Counter)
    now: int = 0
    peak: int = 0
    _known: set[int] = field(default_factory=set, repr=False)
    _pinned: set[int] = field(default_factory=set, repr=False)
    _in_flight: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list, repr=False)

    def clear(self) -> None:
        """Forget all launches and waits. The bytes of live tensors stay."""
        self.launches.clear()
        self.waits.clear()

    def wait(self, reason: str) -> None:
        """Count that the host waits for the device here. All copies arrive."""
        self.land()
        self.waits[self._line(), reason] += 1

    def land(self) -> None:
        """Let all copies to the CPU arrive."""
        with torch._C._DisableTorchDispatch(), torch.inference_mode(False), torch.no_grad():
            for destination, values in self._in_flight:
                destination.copy_(values)
        self._in_flight.clear()

    def fly(self, destination: torch.Tensor) -> None:
        """Fill a tensor of the CPU with garbage. Its present values come back when the host waits."""
        with torch._C._DisableTorchDispatch(), torch.inference_mode(False), torch.no_grad():
            self._in_flight.append((destination, destination.clone()))
            if destination.is_floating_point() or destination.is_complex():
                destination.fill_(torch.nan)
            else:
                destination.copy_(~destination)

    def hold(self, tensor: torch.Tensor) -> None:
        """Count the memory of a tensor on the device until it is freed. Tensors that share memory count once."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        size = -(-storage.nbytes() // BLOCK) * BLOCK
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, key, size)

    def pin(self, tensor: torch.Tensor) -> None:
        """Note that a tensor of the CPU is in pinned memory."""
        storage = tensor.untyped_storage()
        self._pinned.add(storage._cdata)
        weakref.finalize(storage, self._pinned.discard, storage._cdata)

    def is_pinned(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor of the CPU is in pinned memory."""
        return tensor.untyped_storage()._cdata in self._pinned

    def _free(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size

    def _line(self) -> str:
        """The innermost line of a file within `home`, except for the files of the pretended device itself."""
        frame, home = sys._getframe(1), f"{self.home}/"
        while frame is not None:
            file = frame.f_code.co_filename
            if file.startswith(home) and not file.startswith((HERE, LIBRARIES)):
                return f"{Path(file).relative_to(home)}:{frame.f_lineno}"
            frame = frame.f_back  # type: ignore[assignment]
        return ELSEWHERE
