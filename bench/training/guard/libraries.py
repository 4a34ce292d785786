"""The functions and classes of the libraries that compute figures: which of them were replaced in this process."""

from __future__ import annotations

import builtins
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import FunctionType, ModuleType
from typing import Any

OURS = ("bench", "methods", "metrics")
WATCHED = (
    *OURS, "torch", "diffusers", "transformers", "tokenizers", "peft", "safetensors", "numpy", "PIL", "torchvision",
    "timm", "open_clip", "torch_fidelity", "scipy", "builtins", "math", "random", "time", "os", "functools",
    "itertools", "copy", "json", "hashlib", "warnings", "contextlib", "io", "pathlib", "shutil",
)  # fmt: skip
UNWATCHED = tuple(  # parts of them that no figure goes through
    f"torch.{name}."
    for name in (
        "distributed",
        "_inductor",
        "_dynamo",
        "testing",
        "onnx",
        "ao",
        "fx",
        "export",
        "_export",
        "jit",
        "compiler",
    )
)
HOOKS = {  # modules whose dicts hold the hooks of all modules and of all optimisers
    "torch.nn.modules.module": "_global_",
    "torch.optim.optimizer": "_global_",
    "torch.nn.utils.parametrize": "_cache",
}
PLAIN = (bool, int, float, complex, str, bytes, tuple, frozenset, type(None))
MISSING = object()
BOOKKEEPING = frozenset({"__slotnames__", "__abstractmethods__", "_abc_impl", "__annotations__", "__doc__"})
Put = Callable[[], None]


@dataclass(frozen=True)
class Replaced:
    """Something of a library that is another one than before.

    Args:
        name: its dotted name.
        put: puts back what was there.
        again: undoes `put`.
    """

    name: str
    put: Put
    again: Put


class Libraries:
    """The functions, classes and constants of all loaded modules of `WATCHED`, as they are now.

    Names that a module gets later are of no interest, since libraries load many of their parts on first use, unless
    they hide a builtin.
    """

    def __init__(self) -> None:
        self._modules: dict[ModuleType, dict[str, Any]] = {}
        self._classes: dict[type, dict[str, Any]] = {}
        self._functions: dict[FunctionType, tuple[Any, Any, Any]] = {}
        self._hooks: list[tuple[dict[Any, Any], dict[Any, Any], str]] = []
        self._loaded: dict[str, ModuleType] = {}
        self.refresh()

    def refresh(self) -> None:
        """Take what is there now as right."""
        modules = _watched()
        changed = [module for module in modules.values() if not _same(vars(module), self._modules.get(module))]
        for module in changed:
            self._modules[module] = dict(vars(module))
            for value in vars(module).values():
                if isinstance(value, type) and value.__module__ == module.__name__:
                    self._classes.setdefault(value, {})
        patched = [cls for cls, saved in self._classes.items() if not _same(vars(cls), saved)]
        for cls in patched:
            self._classes[cls] = dict(vars(cls))
        known = self._functions
        for values in (*(self._modules[module] for module in changed), *(self._classes[cls] for cls in patched)):
            known |= {function: _inside(function) for function in _functions(values)}
        self._loaded = modules
        self._hooks = [
            (value, dict(value), f"{name}.{key}")
            for name, begins in HOOKS.items()
            if name in modules
            for key, value in vars(modules[name]).items()
            if key.startswith(begins) and isinstance(value, dict)
        ]

    def replaced(self) -> Iterator[Replaced]:
        """What was replaced, removed or patched since the last `refresh`, in no order."""
        for name, module in self._loaded.items():
            if sys.modules.get(name) is not module:
                yield _item(f"sys.modules[{name!r}]", sys.modules, name, module)
        for module, saved in self._modules.items():
            if not _same(vars(module), saved):
                yield from _in_module(module, saved)
        for cls, saved in self._classes.items():
            if not _same(vars(cls), saved):
                yield from _in_class(cls, saved)
        for function, inside in self._functions.items():
            code, defaults, keywords = inside  # tens of thousands, so identity is asked before equality
            same = function.__code__ is code and function.__defaults__ is defaults
            if not (same and function.__kwdefaults__ is keywords) and _inside(function) != inside:
                name, now = f"the code of {function.__module__}.{function.__qualname__}", _inside(function)
                yield Replaced(name, partial(_put_inside, function, inside), partial(_put_inside, function, now))
        for hooks, saved, name in self._hooks:
            if not _same(hooks, saved):
                yield Replaced(
                    f"a hook in {name}", partial(_refill, hooks, saved), partial(_refill, hooks, dict(hooks))
                )


def settle() -> None:
    """Let torch replace those of its own functions that it replaces when something is first compiled.

    It does so when `torch._dynamo` is imported, and once more at the first `torch.compile`.
    """
    frames = importlib.import_module("torch._dynamo.eval_frame")
    if patcher := getattr(frames, "TorchPatcher", None):  # torch's own affair: later versions may have none
        patcher.patch()


def _watched() -> dict[str, ModuleType]:
    return {
        name: module
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] in WATCHED and isinstance(module, ModuleType) and not f"{name}.".startswith(UNWATCHED)
    }


def _same(now: Mapping[str, Any], saved: Mapping[str, Any] | None) -> bool:
    """Whether two namespaces have the same objects; equal but distinct objects may count as the same."""
    try:
        return bool(now == saved)
    except Exception:  # an array or a tensor was replaced, and its comparison has no truth value
        return False


def _functions(values: Mapping[str, Any]) -> Iterator[FunctionType]:
    for value in values.values():
        if isinstance(value, FunctionType):
            yield value
        elif isinstance(value, (staticmethod, classmethod)) and isinstance(value.__func__, FunctionType):
            yield value.__func__


def _inside(function: FunctionType) -> tuple[Any, Any, Any]:
    return function.__code__, function.__defaults__, function.__kwdefaults__


def _put_inside(function: FunctionType, code: tuple[Any, Any, Any]) -> None:
    function.__code__, function.__defaults__, function.__kwdefaults__ = code


def _in_module(module: ModuleType, saved: Mapping[str, Any]) -> Iterator[Replaced]:
    now, name, ours = vars(module), module.__name__, module.__name__.partition(".")[0] in OURS
    for key, value in saved.items():
        other = now.get(key, MISSING)
        if other is value or key.startswith("__"):
            continue
        matters = ours or callable(value) or isinstance(value, ModuleType)
        matters = matters or (isinstance(value, PLAIN) and not key.startswith("_") and other != value)
        if matters and not _lazy(value, other):
            yield _item(f"{name}.{key}", now, key, value)
    for key in now.keys() - saved.keys():
        loaded = isinstance(now[key], ModuleType) and now[key].__name__ == f"{name}.{key}"
        if not key.startswith("__") and (hasattr(builtins, key) or (ours and not loaded)):
            yield _item(f"{name}.{key}", now, key, MISSING)


def _in_class(cls: type, saved: Mapping[str, Any]) -> Iterator[Replaced]:
    now = vars(cls)
    ours = cls.__module__.partition(".")[0] in OURS
    for key in {**saved, **now}:
        value, other = saved.get(key, MISSING), now.get(key, MISSING)
        if other is value or key in BOOKKEEPING:
            continue
        descriptor = any(hasattr(one, "__get__") or callable(one) for one in (value, other))
        constant = not key.startswith("_") and isinstance(value, PLAIN) and isinstance(other, PLAIN) and value != other
        counts = cls.__qualname__ == "RemovableHandle"  # its class counts the hooks that were ever registered
        if (ours or descriptor or constant or MISSING in (value, other)) and not counts and not _lazy(value, other):
            name = f"{cls.__module__}.{cls.__qualname__}.{key}"
            yield Replaced(name, partial(_set, cls, key, value), partial(_set, cls, key, other))


def _lazy(value: Any, other: Any) -> bool:
    """Whether torch itself wrapped a method of its own, as it does with the steps of optimisers on first use."""
    file = getattr(getattr(other, "__code__", None), "co_filename", "")
    return getattr(other, "__wrapped__", MISSING) is value and "/torch/optim/" in file.replace("\\", "/")


def _item(name: str, values: dict[str, Any], key: str, then: Any) -> Replaced:
    return Replaced(name, partial(_put, values, key, then), partial(_put, values, key, values.get(key, MISSING)))


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    if value is MISSING:
        values.pop(key, None)
    else:
        values[key] = value


def _set(cls: type, key: str, value: Any) -> None:
    if value is MISSING:
        type.__delattr__(cls, key)
    else:
        type.__setattr__(cls, key, value)


def _refill(hooks: dict[Any, Any], saved: Mapping[Any, Any]) -> None:
    hooks.clear()
    hooks.update(saved)
