"""The state that a plug-in's own modules and classes keep, so that each cell starts from the same one."""

from __future__ import annotations

import collections
import copy
import sys
from collections.abc import Iterable
from types import ModuleType
from typing import Any

CONTAINERS = (dict, list, set, collections.deque, collections.defaultdict, collections.OrderedDict, collections.Counter)


class PluginState:
    """The names of some modules and of their classes, with the items of the containers behind these names.

    Args:
        modules: names of modules. The user's own script or notebook, `__main__`, is left out: people look at what a
            method wrote there.
    """

    def __init__(self, modules: Iterable[str]) -> None:
        names = [name for name in dict.fromkeys(modules) if name != "__main__" and name in sys.modules]
        self._modules = {sys.modules[name]: dict(vars(sys.modules[name])) for name in names}
        classes = {
            value
            for module, values in self._modules.items()
            for value in values.values()
            if isinstance(value, type) and value.__module__ == module.__name__
        }
        self._classes = {cls: dict(vars(cls)) for cls in classes}
        namespaces = [*self._modules.values(), *self._classes.values()]
        self._items = [
            (value, copy.copy(value))
            for values in namespaces
            for key, value in values.items()
            if type(value) in CONTAINERS and not key.startswith("__")
        ]

    def restore(self) -> None:
        """Put back every name and item that differs."""
        for module, saved in self._modules.items():
            _put_names(module, saved)
        for cls, saved in self._classes.items():
            for key in {**saved, **vars(cls)}:
                if key in saved and vars(cls).get(key) is not saved[key]:
                    type.__setattr__(cls, key, saved[key])
                elif key not in saved and not key.startswith("__"):
                    type.__delattr__(cls, key)
        for value, saved in self._items:
            _put_items(value, saved)


def _put_names(module: ModuleType, saved: dict[str, Any]) -> None:
    values = vars(module)
    for key in values.keys() - saved.keys():
        del values[key]
    values.update(saved)


def _put_items(value: Any, saved: Any) -> None:
    value.clear()
    if isinstance(value, (list, collections.deque)):
        value.extend(saved)
    else:
        value.update(saved)
