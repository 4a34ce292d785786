"""The settings of a process that are not torch's."""

from __future__ import annotations

import gc
import logging
import os
import random
import sys
import warnings
from typing import Any

import numpy as np
import torch

from bench.training.guard.switch import Switch

HUGGING_FACE = ("diffusers.utils.logging", "transformers.utils.logging")  # modules that switch progress bars


def _environment() -> dict[str, str]:
    return dict(os.environ)


def _put_environment(value: dict[str, str]) -> None:
    for name in os.environ.keys() - value.keys():
        del os.environ[name]
    os.environ.update(value)


def _working_folder() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return ""


def _put_working_folder(value: str) -> None:
    if value:
        os.chdir(value)


def _put_path(value: list[str]) -> None:
    sys.path[:] = value


def _put_filters(value: list[Any]) -> None:
    warnings.filters[:] = value  # type: ignore[index]
    warnings._filters_mutated()  # type: ignore[attr-defined]  # or Python would go on with the filters that it cached


def _random() -> tuple[Any, ...]:
    arrays: Any = np.random.get_state()
    cuda = tuple(t.numpy().tobytes() for t in torch.cuda.get_rng_state_all()) if torch.cuda.is_initialized() else ()
    cpu = torch.get_rng_state().numpy().tobytes()
    return random.getstate(), (arrays[0], arrays[1].tobytes(), *arrays[2:]), cpu, cuda


def _put_random(value: tuple[Any, ...]) -> None:
    python, (kind, words, *rest), cpu, cuda = value
    random.setstate(python)
    np.random.set_state((kind, np.frombuffer(words, np.uint32), *rest))
    torch.set_rng_state(torch.frombuffer(bytearray(cpu), dtype=torch.uint8))
    if cuda:
        torch.cuda.set_rng_state_all([torch.frombuffer(bytearray(state), dtype=torch.uint8) for state in cuda])


Loggers = tuple[int, list[tuple[logging.Logger, int, list[logging.Handler], bool, bool]]]


def _loggers() -> Loggers:
    named = logging.root.manager.loggerDict.values()  # includes placeholders, which are not loggers
    known = [logging.root, *(one for one in named if isinstance(one, logging.Logger))]
    each = [(one, one.level, list(one.handlers), one.propagate, one.disabled) for one in known]
    return logging.root.manager.disable, each


def _put_loggers(value: Loggers) -> None:
    logging.disable(value[0])
    for one, level, handlers, propagate, disabled in value[1]:
        one.setLevel(level)
        one.handlers[:] = handlers
        one.propagate, one.disabled = propagate, disabled


def _progress_bars() -> dict[str, bool]:
    return {name: sys.modules[name].is_progress_bar_enabled() for name in HUGGING_FACE if name in sys.modules}


def _put_progress_bars(value: dict[str, bool]) -> None:
    for name in HUGGING_FACE:
        if name in sys.modules and value.get(name, True):  # they are shown where nobody has said otherwise
            sys.modules[name].enable_progress_bar()


def _put_gc(value: tuple[bool, tuple[int, int, int]]) -> None:
    (gc.enable if value[0] else gc.disable)()
    gc.set_threshold(*value[1])


def _put_streams(value: tuple[Any, Any]) -> None:
    sys.stdout, sys.stderr = value


PROCESS: tuple[Switch, ...] = (
    Switch("numpy's handling of errors", np.geterr, lambda value: np.seterr(**value)),
    Switch("the environment variables", _environment, _put_environment, imports=True),
    Switch("the working folder", _working_folder, _put_working_folder),
    Switch("sys.path", lambda: list(sys.path), _put_path, "warns", imports=True),
    Switch("the random state", _random, _put_random, "silent"),
    Switch("the filters of warnings", lambda: list(warnings.filters), _put_filters, "warns", imports=True),
    Switch("the recursion limit", sys.getrecursionlimit, sys.setrecursionlimit, "silent"),
    Switch("the garbage collector", lambda: (gc.isenabled(), gc.get_threshold()), _put_gc, "silent"),
    Switch("sys.stdout and sys.stderr", lambda: (sys.stdout, sys.stderr), _put_streams, "silent"),
    Switch("the loggers", _loggers, _put_loggers, "silent"),
    Switch("progress bars", _progress_bars, _put_progress_bars, "silent"),
)
