"""`--plugin FILE`: Python files of the user that register methods, metrics, worlds or suites."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

from bench.core import digest
from bench.core.registry import BrokenEntry, DuplicateName, Registry
from bench.plan import plugin_checks, plugin_import, world_checks
from bench.plan.plugin_checks import InvalidEntry
from bench.suites import SUITES
from bench.training.guard.watch import LeftBehind, unpatched
from bench.worlds import WORLDS
from methods import METHODS
from metrics import METRICS

T = TypeVar("T")
SENTENCES = (InvalidEntry, DuplicateName, LeftBehind)  # errors whose messages are sentences for people
CHECKS: dict[Registry[Any], Callable[[str, Any], None]] = {
    METHODS: plugin_checks.check_method,
    METRICS: plugin_checks.check_metric,
    WORLDS: world_checks.check_world,
    SUITES: plugin_checks.check_suite,
}

Entries = tuple[tuple[Registry[Any], str], ...]
_loaded: dict[Path, Entries] = {}  # file -> its entries, as registry and name; of this process; a worker loads its own


class PluginError(ValueError):
    """A plug-in that can't be used; the message says why, and in which line of which file or in which package."""


def load(files: Sequence[Path]) -> None:
    """Run each file once in this process; its entries stay registered.

    A file is run again if it, or a file that it imports, has other content than before. Each file becomes a module
    whose name contains a digest of the file's path, so that two files of the same name can be loaded. Raises
    PluginError if a file does not exist, raises an exception, registers nothing, registers a name that is taken,
    registers an entry that `bench.plan.plugin_checks` refuses, or changes torch or another library
    (`bench.training.guard.watch.unpatched`). After an error some entries of the file may stay registered.
    """
    for file in plugin_import.unload_changed():
        for registry, name in _loaded.pop(file, ()):
            registry.discard(name)
    for file in map(Path.resolve, files):
        if file not in _loaded:
            _loaded[file] = _load(file)


def checked(registry: Registry[T], name: str) -> T:
    """The entry `name` of `registry`, checked by `bench.plan.plugin_checks`.

    Raises UnknownName, and PluginError for an entry that can't be used; the message names its package.
    """
    try:
        package = registry.package(name)
        with unpatched(f"{registry.noun} {name!r}") if package else nullcontext():
            found = registry.get(name)
        CHECKS[registry](name, found)
    except BrokenEntry as error:
        raise PluginError(str(error)) from error
    except (InvalidEntry, LeftBehind) as error:
        raise PluginError(f"{error} (in {package})" if package else str(error)) from error
    return found


def usable(registry: Registry[Any]) -> tuple[str, ...]:
    """The names in `registry`. Entry points of other packages that can't be used are left out with a warning."""
    return registry.usable(CHECKS[registry])


@contextmanager
def temporarily() -> Iterator[None]:
    """At the end of a `with` block, forget every file that it loaded and every entry that it registered."""
    loaded = dict(_loaded)
    with ExitStack() as stack:
        for registry in CHECKS:
            stack.enter_context(registry.temporarily())
        stack.enter_context(plugin_import.temporarily())
        try:
            yield
        finally:
            _loaded.clear()
            _loaded.update(loaded)


def _load(file: Path) -> Entries:
    if file.suffix != ".py" or not file.is_file():
        raise PluginError(f"plugin {file}: " + ("no such file" if file.suffix == ".py" else "not a python file (.py)"))
    before = {registry.noun: registry.names() for registry in CHECKS}
    name = f"lethe_plugin_{file.stem.replace('.', '_')}_{digest.of_json(str(file))[:8]}"
    try:
        with unpatched("it"):
            plugin_import.run(file, name)
        new = [(registry, one) for registry in CHECKS for one in registry.names() if one not in before[registry.noun]]
        for registry, entry in new:
            CHECKS[registry](entry, registry.get(entry))
            registry.set_home(entry, name)
    except (Exception, SystemExit) as error:
        sys.modules.pop(name, None)
        hint = "; choose another name" if isinstance(error, DuplicateName) else ""
        reason = str(error) if isinstance(error, SENTENCES) else f"{type(error).__name__}: {error}"
        raise PluginError(f"plugin {file}{_line(error, file)}: {reason}{hint}") from error
    if not new:
        del sys.modules[name]
        raise PluginError(f'plugin {file}: registers nothing; decorate a method with @METHODS.register("name")')
    plugin_import.remember(file, name)
    return tuple(new)


def _line(error: BaseException, file: Path) -> str:
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return f", line {error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return f", line {lines[-1]}" if lines else ""
