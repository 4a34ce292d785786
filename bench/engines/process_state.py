"""Saves the global state of a process before a run, and restores it after the run."""

from __future__ import annotations

import logging
import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch

OURS = ("bench", "methods", "metrics")  # loggers of this project
HUGGING_FACE = ("diffusers.utils.logging", "transformers.utils.logging")  # modules that switch progress bars


@contextmanager
def restored() -> Iterator[None]:
    """Restore the global state of this process after the block, also after an exception.

    The state includes environment variables, handlers and levels of loggers, progress bars of diffusers and
    transformers, and the global random generators of Python, numpy and torch on every device. It also includes the
    settings of torch: gradients in the calling thread, default dtype, threads, TF32, cuDNN and deterministic
    algorithms.
    """
    with ExitStack() as stack:
        for snapshot in (_environment, _loggers, _progress_bars, _random, _switches):
            stack.callback(snapshot())
        stack.enter_context(torch.enable_grad() if torch.is_grad_enabled() else torch.no_grad())
        yield


@contextmanager
def without_messages() -> Iterator[None]:
    """Within the block, warnings of this project's loggers go only to handlers that the caller has set up.

    Otherwise Python would print warnings to standard error if there is no handler.
    """
    handler = logging.NullHandler()
    for name in OURS:
        logging.getLogger(name).addHandler(handler)
    try:
        yield
    finally:
        for name in OURS:
            logging.getLogger(name).removeHandler(handler)


def _environment() -> Callable[[], None]:
    before = dict(os.environ)

    def restore() -> None:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)

    return restore


def _loggers() -> Callable[[], None]:
    named = logging.root.manager.loggerDict.values()  # includes placeholders, which are not loggers
    known = [logging.root, *(one for one in named if isinstance(one, logging.Logger))]
    before = [(one, one.level, list(one.handlers), one.propagate, one.disabled) for one in known]
    disabled = logging.root.manager.disable

    def restore() -> None:
        logging.disable(disabled)
        for one, level, handlers, propagate, is_disabled in before:
            one.setLevel(level)
            one.handlers[:] = handlers
            one.propagate, one.disabled = propagate, is_disabled

    return restore


def _progress_bars() -> Callable[[], None]:
    shown = {name: sys.modules[name].is_progress_bar_enabled() for name in HUGGING_FACE if name in sys.modules}

    def restore() -> None:
        for name in HUGGING_FACE:
            if name in sys.modules and shown.get(name, True):  # they are shown where nobody has said otherwise
                sys.modules[name].enable_progress_bar()

    return restore


def _random() -> Callable[[], None]:
    python, arrays, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None

    def restore() -> None:
        random.setstate(python)
        np.random.set_state(arrays)
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)

    return restore


def _switches() -> Callable[[], None]:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    tf32, flags = (matmul.allow_tf32, cudnn.allow_tf32), (cudnn.enabled, cudnn.benchmark, cudnn.deterministic)
    deterministic = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()

    def restore() -> None:
        torch.set_default_dtype(dtype)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        matmul.allow_tf32, cudnn.allow_tf32 = tf32
        cudnn.enabled, cudnn.benchmark, cudnn.deterministic = flags
        torch.use_deterministic_algorithms(deterministic, warn_only=warns)

    return restore
