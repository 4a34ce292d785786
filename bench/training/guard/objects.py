"""The Python objects that a network consists of: which of their attributes and items are other ones than before."""

from __future__ import annotations

import collections
import enum
import functools
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import torch

LEAVES = (
    type, ModuleType, FunctionType, BuiltinFunctionType, MethodType, functools.partial, logging.Logger, enum.Enum,
    re.Pattern, PurePath, str, bytes, int, float, complex, type(None), torch.dtype, torch.device, torch.Generator,
)  # fmt: skip
VALUES = (str, bytes, int, float, complex)  # compared by value, everything else by identity
SILENT_NAMES = re.compile(r"\._(?:modules|parameters|buffers)\b|\.__dict__\b")
HOOKS = re.compile(r"_(?:\w+_)?hooks(?:_\w+)?$")
MISSING = object()
_known: dict[type, bool] = {}  # class -> whether its objects are leaves
NOTHING: dict[Any, Any] = {}  # most of the dicts of a network are empty; nobody writes to this one


class Objects:
    """All objects that can be reached from `roots` through attributes and items, with their attributes and items now.

    Args:
        roots: name -> object.
        without: attributes that are of no interest, as pairs of an object and the attribute's name.

    Attributes:
        tensors: tensor -> its name, for all tensors among the objects.
    """

    def __init__(self, roots: Mapping[str, Any], without: Mapping[int, frozenset[str]] | None = None) -> None:
        self.tensors: dict[torch.Tensor, str] = {}
        self._without = without or {}
        self._attributes: list[tuple[Any, type, dict[str, Any], str]] = []
        self._items: list[tuple[Any, Any, str]] = []
        self._gradients: list[tuple[torch.Tensor, dict[str, Any], str]] = []
        self._walk(roots)

    def _walk(self, roots: Mapping[str, Any]) -> None:
        seen: set[int] = set()
        stack = [(value, name) for name, value in reversed(list(roots.items()))]
        while stack:
            one, name = stack.pop()
            if _leaf(one) or id(one) in seen:
                continue
            seen.add(id(one))
            if isinstance(one, torch.Tensor):
                self.tensors[one] = plain(name)
                self._gradients.append((one, _about(one), name))
                continue
            if isinstance(one, dict):
                self._items.append((one, dict(one) if one else NOTHING, name))
                stack.extend((value, f"{name}.{key}") for key, value in one.items() if not _leaf(value))
            elif isinstance(one, (list, collections.deque)):
                self._items.append((one, list(one), name))
                stack.extend((value, f"{name}[{i}]") for i, value in enumerate(one) if not _leaf(value))
            elif isinstance(one, set):
                self._items.append((one, set(one), name))
            elif isinstance(one, (tuple, frozenset)):
                stack.extend((value, name) for value in one if not _leaf(value))
            values = getattr(one, "__dict__", None)
            if type(values) is dict:
                kept = self._kept(one, values)
                self._attributes.append((one, type(one), kept, name))
                stack.extend((value, f"{name}.{key}") for key, value in kept.items() if not _leaf(value))

    def _kept(self, one: Any, values: Mapping[str, Any]) -> dict[str, Any]:
        left_out = self._without.get(id(one))
        if left_out:
            return {k: v for k, v in values.items() if k not in left_out}
        return dict(values) if values else NOTHING

    def restore(self, tensors: bool = True) -> list[str]:
        """Put back every attribute and item that differs. Returns what messages call the changes, an entry each.

        Args:
            tensors: whether to put back gradients and hooks of tensors too.
        """
        changes: list[str] = []
        for one, cls, saved, name in self._attributes:
            if type(one) is not cls:
                object.__setattr__(one, "__class__", cls)
                changes.append(f"{plain(name)} with another class")
            values = vars(one)
            now = self._kept(one, values)
            if not _alike(now, saved):
                changes += _told(one, name, now, saved)
                for key in now.keys() - saved.keys():
                    del values[key]
                values.update(saved)
                if list(self._kept(one, values)) != list(saved):
                    left_out = {key: values[key] for key in values.keys() - saved.keys()}
                    values.clear()
                    values.update(saved | left_out)
        for one, saved, name in self._items:
            if not _alike(one, saved):
                changes += _told(None, name, _as_dict(one), _as_dict(saved))
                _refill(one, saved)
        for tensor, saved, name in self._gradients if tensors else ():
            now = _about(tensor)
            if now != saved:
                changes += [f"{plain(name)} with another {noun}" for noun in saved if now[noun] is not saved[noun]]
                _put_about(tensor, saved)
        return changes


def _leaf(value: object) -> bool:
    cls = type(value)
    if cls not in _known:  # some of torch's classes answer `isinstance` slowly, and a network has thousands of values
        _known[cls] = issubclass(cls, LEAVES)
    return _known[cls]


def _about(tensor: torch.Tensor) -> dict[str, Any]:
    hooks = tensor._backward_hooks
    after = getattr(tensor, "_post_accumulate_grad_hooks", None)
    attributes = vars(tensor) if type(tensor) is not torch.Tensor or vars(tensor) else {}
    return {
        "requires_grad": tensor.requires_grad,
        "gradient": None if tensor.grad_fn is not None else tensor.grad,
        "hook": tuple(hooks.values()) if hooks else (),
        "hook after the gradient": tuple(after.values()) if after else (),
        "attribute": tuple(attributes.items()),
    }


def _put_about(tensor: torch.Tensor, saved: Mapping[str, Any]) -> None:
    if tensor.is_leaf and tensor.requires_grad != saved["requires_grad"]:
        tensor.requires_grad_(saved["requires_grad"])
    if tensor.is_leaf:
        tensor.grad = saved["gradient"]
    for attribute, noun in (("_backward_hooks", "hook"), ("_post_accumulate_grad_hooks", "hook after the gradient")):
        hooks = getattr(tensor, attribute, None)
        if hooks and not saved[noun]:
            hooks.clear()
    vars(tensor).clear()
    vars(tensor).update(saved["attribute"])


def _alike(now: Any, saved: Any) -> bool:
    if isinstance(now, dict):
        if not now or len(now) != len(saved):
            return not now and not saved
        return all(
            k is key and (v is w or _equal(v, w)) for (k, v), (key, w) in zip(now.items(), saved.items(), strict=True)
        )
    if isinstance(now, set):
        return bool(now == saved)
    return len(now) == len(saved) and all(v is w or _equal(v, w) for v, w in zip(now, saved, strict=True))


def _equal(one: Any, other: Any) -> bool:
    return type(one) is type(other) and isinstance(one, VALUES) and bool(one == other)


def _as_dict(values: Any) -> dict[Any, Any]:
    if isinstance(values, dict):
        return dict(values)
    return {value: value for value in values} if isinstance(values, set) else dict(enumerate(values))


def _told(owner: Any, name: str, now: Mapping[Any, Any], saved: Mapping[Any, Any]) -> Iterator[str]:
    """What messages call the differences between the attributes or items of one object."""
    if HOOKS.search(name):
        yield f"a hook in {plain(name)}"
        return
    told = False
    for key in {**saved, **now}:
        then, value = saved.get(key, MISSING), now.get(key, MISSING)
        if then is value or _equal(then, value):
            continue
        told = True
        place = plain(f"{name}.{key}")
        if then is MISSING:
            yield f"{place} {'replaced' if owner is not None and hasattr(type(owner), str(key)) else 'added'}"
        elif value is MISSING:
            yield f"{place} removed"
        elif isinstance(then, (*VALUES, type(None))) and isinstance(value, (*VALUES, type(None))):
            yield f"{place} changed from {then!r} to {value!r}"
        else:
            yield f"{place} replaced"
    if not told:
        yield f"the order of {plain(name)} changed"


def plain(name: str) -> str:
    """A path without the dictionaries of torch in it: "unet.conv_in.bias"."""
    return SILENT_NAMES.sub("", name)


def _refill(one: Any, saved: Any) -> None:
    if isinstance(one, collections.OrderedDict):
        collections.OrderedDict.clear(one)
        for key, value in saved.items():
            collections.OrderedDict.__setitem__(one, key, value)
    elif isinstance(one, dict):
        dict.clear(one)
        dict.update(one, saved)
    elif isinstance(one, set):
        one.clear()
        one.update(saved)
    else:
        one.clear()
        one.extend(saved)
