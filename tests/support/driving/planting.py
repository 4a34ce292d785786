"""Puts a mistake into the code of the project: one line of a real function is changed."""

from __future__ import annotations
import __future__

import importlib
import inspect
import linecache
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock


@contextmanager
def planted(place: str, line: str, faulty: str) -> Iterator[None]:
    """Within the block, a function has the text `faulty` in place of `line`.

    Args:
        place: the function or method, as "module:name" or "module:Class.name".
        line: a part of its source that occurs once.
        faulty: what stands there instead.

    Raises ValueError if the source of the function does not contain `line` exactly once.
    """
    module_name, _, path = place.partition(":")
    owner: Any = importlib.import_module(module_name)
    *classes, name = path.split(".")
    for each in classes:
        owner = getattr(owner, each)
    original = inspect.getattr_static(owner, name)
    function = inspect.unwrap(original.__func__ if isinstance(original, (staticmethod, classmethod)) else original)
    source = textwrap.dedent(inspect.getsource(function))
    if source.count(line) != 1:
        raise ValueError(f"{place} has {line!r} {source.count(line)} times, not once")
    with mock.patch.object(owner, name, _compiled(source.replace(line, faulty), name, function)):
        yield


def _compiled(source: str, name: str, function: Any) -> Any:
    """The function that the source defines, with the globals and decorators of `function`."""
    file = f"<planted {name}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)  # for tracebacks
    code = compile(source, file, "exec", flags=__future__.annotations.compiler_flag, dont_inherit=True)
    made: dict[str, Any] = {}
    exec(code, function.__globals__, made)
    return made[name]
