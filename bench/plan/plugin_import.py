"""Imports the code of plug-ins from its source, never from compiled copies, and finds code that changed since.

Python trusts a compiled copy (`.pyc`) if the size of the source and the second of its last change are as they were. A
plug-in of another content could then run as the old one, under the cache key of the new one.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.core import digest
from bench.core.contents import source_files
from bench.training import file_watch


class SourceLoader(importlib.machinery.SourceFileLoader):
    """A loader that compiles the source at every import, and writes no compiled copy."""

    def get_code(self, fullname: str) -> types.CodeType:
        """The code of the module. Raises SyntaxError, OSError, and ImportError if keys contain another text of it."""
        code = self.source_to_code(self.get_data(self.path), self.path)
        if source_files.has_changed(Path(self.path).resolve()):
            raise ImportError(f"{self.path} changed after this run began; begin the run again")
        return code


class _Finder:
    """Finds modules as Python does, and gives those beside plug-ins a `SourceLoader`."""

    def __init__(self) -> None:
        self.folders: set[Path] = set()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        found = importlib.machinery.PathFinder.find_spec(name, path, target)
        if found and type(found.loader) is importlib.machinery.SourceFileLoader:
            file = Path(found.loader.path).resolve()
            if source_files.of_user(file) and any(file.is_relative_to(folder) for folder in self.folders):
                found.loader = SourceLoader(found.loader.name, found.loader.path)
                return found
        return None


FINDER = _Finder()
_reads: dict[str, file_watch.Reads] = {}  # module of a plug-in -> the files that it read while it was run


def run(file: Path, name: str) -> types.ModuleType:
    """Run a plug-in's file as the module `name`, which stays in `sys.modules`. Raises whatever the file raises."""
    if FINDER not in sys.meta_path:
        sys.meta_path.insert(0, FINDER)
    FINDER.folders.add(file.parent)
    importlib.invalidate_caches()  # a file beside the plug-in may be a moment old
    spec = importlib.util.spec_from_file_location(name, file, loader=SourceLoader(name, str(file)))
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up there
    with file_watch.watching() as reads:
        spec.loader.exec_module(module)
    _reads[name] = reads
    return module


def reads_of(names: Iterable[str]) -> list[file_watch.Reads]:
    """The files that plug-ins among the modules called `names` read while they were run."""
    return [_reads[name] for name in names if name in _reads]


_run: dict[Path, dict[Path, str]] = {}  # plug-in -> its source files and their digests when it was run


@contextmanager
def temporarily() -> Iterator[None]:
    """At the end of a `with` block, forget the plug-ins that were run in it."""
    known = dict(_run)
    try:
        yield
    finally:
        later = {file: _run.pop(file) for file in [*_run] if _run[file] is not known.get(file)}
        _run.update(known)
        _forget(later)


def remember(file: Path, name: str) -> None:
    """Note the content of every source file of a plug-in that was run as the module `name`. Keys contain this one."""
    _run[file] = {source: digest.of_file(source) for source in source_files.closure([name]).values()}
    for source in _run[file]:
        source_files.remember(source)


def unload_changed() -> list[Path]:
    """The plug-ins that this process ran, and of which a source file has other content now, or is gone.

    Their modules are removed from `sys.modules`, so that the next import runs them again.
    """
    found = [file for file, known in _run.items() if any(map(_differs, known, known.values()))]
    for file in found:
        known = _run.pop(file)
        _forget({file: known})
        for name, module in list(sys.modules.items()):
            source = getattr(module, "__file__", None)
            path = Path(source).resolve() if isinstance(source, str) else None
            if path in known and (path.is_relative_to(file.parent) or _differs(path, known[path])):
                del sys.modules[name]
    return found


def _forget(plugins: Mapping[Path, Mapping[Path, str]]) -> None:
    """Forget the texts of the source files of plug-ins, except those that other plug-ins use as well."""
    used = {source for sources in _run.values() for source in sources}
    source_files.forget({source for sources in plugins.values() for source in sources} - used)


def _differs(file: Path, content: str) -> bool:
    return not file.is_file() or digest.of_file(file) != content
