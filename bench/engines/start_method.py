"""How worker processes start. On a CPU they are forked from a process that has imported the large libraries once."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any

import torch

# The libraries that every worker imports. Lethe's own modules are not among them: the server may find another copy.
PRELOADED = (
    "torch",
    "torchvision",
    "diffusers.models.unets.unet_2d_condition",
    "diffusers.models.autoencoders.autoencoder_kl",
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion",
    "transformers.models.clip.modeling_clip",
    "transformers.models.clip.tokenization_clip",
    "torch_fidelity",
    "open_clip",
    "pandas",
    "scipy.stats",
)


def context() -> BaseContext:
    """The multiprocessing context of workers: a fork server without CUDA, otherwise new interpreters.

    CUDA does not survive a fork if a library has initialised it during its import.
    """
    forks = "forkserver" in multiprocessing.get_all_start_methods() and not torch.cuda.is_available()
    return multiprocessing.get_context("forkserver" if forks else "spawn")


def prepare() -> None:
    """Start the fork server, which imports `PRELOADED` while this process goes on. Calling it again does nothing."""
    chosen = context()
    if chosen.get_start_method() != "forkserver":
        return
    from multiprocessing import forkserver  # does not exist on Windows

    chosen.set_forkserver_preload([*PRELOADED])
    with _ignoring_interrupts():
        forkserver.ensure_running()


@contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    """Within the block, Ctrl-C is ignored, also by processes that start in it, which would print a traceback."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class Recorder(BaseContext):
    """A multiprocessing context that remembers the process that it started last.

    So only this process is ended later, and no other child of this process.
    """

    def __init__(self) -> None:
        prepare()
        self._chosen = context()
        self.process: BaseProcess | None = None  # the process that was started last

    def get_start_method(self, allow_none: bool = False) -> str:
        """The name of the start method, "forkserver" or "spawn"."""
        return self._chosen.get_start_method()

    def Process(self, *args: Any, **options: Any) -> BaseProcess:
        """Make a process, like `multiprocessing.Process`."""
        self.process = self._chosen.Process(*args, **options)  # type: ignore[attr-defined]
        return self.process
