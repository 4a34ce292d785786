"""Notices the files that a plug-in reads, so that a row can say which of them no cache key contains.

An audit hook sees every file that Python opens: `open`, `os.open`, `pathlib`, `mmap`, `numpy.load`, `torch.load`,
`pandas`, `PIL`, and also `sqlite3.connect` and `ctypes`. Some libraries open files in compiled code, which raises no
audit event. The best known of their functions are wrapped while a block is watched: `safetensors.safe_open` and with it
every `load_file`, `torch.jit.load`, `torch.from_file`, `torch.UntypedStorage.from_file`, and
`torchvision.io.read_file`.

Other compiled readers (tokenizers, h5py, pyarrow, OpenCV) and other processes, such as the workers of a DataLoader, are
not seen.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import site
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import safetensors
import torch

IMPORT = "<frozen importlib._bootstrap_external>"  # the file name in frames of Python's import system
CLOCK_STEP = 20_000_000  # ns; the time of a file that was just written may lie this far in the past
NAMED = 3  # files that a warning names
SYSTEM = ("/proc", "/sys", "/dev", "/etc", "/usr", "/lib", "/lib64", "/run")
COMPILED = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "CUDA_CACHE_PATH")  # caches of compiled code
LETHE = ("bench", "methods", "metrics")


class Reads:
    """The files that were opened for reading in a watched block, without those that the block itself wrote."""

    def __init__(self) -> None:
        self.paths: dict[str, None] = {}
        self._written = set[str]()
        self._began = time.time_ns()

    def note(self, path: str, flags: int) -> None:
        """Note that the file at an absolute path is about to be opened with the flags of `os.open`."""
        exists, writes = os.path.isfile(path), flags & (os.O_WRONLY | os.O_RDWR)
        if writes and (flags & os.O_TRUNC or not exists):
            self._written.add(path)
        elif exists and not flags & os.O_WRONLY and path not in self._written and not self._is_new(path):
            self.paths[path] = None

    def _is_new(self, path: str) -> bool:
        """Whether compiled code or another process has written the file since the block began."""
        return self._began - CLOCK_STEP <= os.stat(path).st_mtime_ns <= time.time_ns() + CLOCK_STEP

    def add(self, *others: Reads) -> None:
        """Add the files of other blocks."""
        for other in others:
            self.paths |= other.paths

    def undeclared(self, declared: Collection[str | Path], folders: Collection[str | Path] = ()) -> list[Path]:
        """The files that were read, without those that are declared and those that belong to the machine.

        Args:
            declared: files, and folders with all of their files.
            folders: further folders whose files do not count, such as the store.
        """
        apart = [*map(os.path.realpath, (*declared, *folders)), *map(os.path.abspath, (*declared, *folders))]
        ignored = (*_machine(), *dict.fromkeys(apart))
        found = {os.path.realpath(path) for path in self.paths if not _within(path, ignored)}
        return sorted(Path(path) for path in found if not _within(path, ignored))


@contextmanager
def watching(modules: Iterable[str] = ()) -> Iterator[Reads]:
    """Note the files that are opened within the block, in every thread of this process.

    Args:
        modules: names of the plug-in's modules. Wrapped functions are replaced in them under any name.
    """
    _install()
    reads = Reads()
    with ExitStack() as stack:
        for module in list(sys.modules.values()):
            _replace(module, _names(module, module.__name__ in modules), stack)
        torch.UntypedStorage.from_file = staticmethod(_storage)  # type: ignore[method-assign,assignment]
        stack.callback(delattr, torch.UntypedStorage, "from_file")
        _active.append(reads)
        stack.callback(_active.remove, reads)
        yield reads


def warning(paths: Collection[Path]) -> str:
    """One sentence, without its full stop, about files that were read and not declared."""
    names = [str(path) for path in paths]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    which = f"{', '.join(names[:NAMED])}{more}"
    return f"it reads {which} without declaring this in `files`, so stored figures stay when the content changes"


_active: list[Reads] = []
_natives: dict[Any, Callable[..., Any]] = {}  # function that opens a file in compiled code -> its wrapper
_ids: set[int] = set()  # of these functions; most values of modules can't be compared, or are slow to compare


@functools.cache
def _install() -> None:
    """Add the audit hook, which can't be removed, and make the wrappers."""
    sys.addaudithook(_hook)
    _wrap(safetensors.safe_open)
    _wrap(torch.jit.load)
    _wrap(torch.from_file)


def _wrap(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function, updated=())
    def wrapper(*args: Any, **named: Any) -> Any:
        _note(args[0] if args else named.get("filename", named.get("f", named.get("path"))), os.O_RDONLY)
        return function(*args, **named)

    _natives[function] = wrapper
    _ids.add(id(function))
    return wrapper


_storage = _wrap(torch.UntypedStorage.from_file)


def _names(module: ModuleType, whole: bool) -> list[str]:
    """The names under which a module has a function that is to be replaced."""
    values: dict[str, Any] = getattr(module, "__dict__", {})
    if module.__name__ == "torchvision.io.image" and values["read_file"] not in _natives.values():
        _wrap(values["read_file"])
    known = tuple(values) if whole else ("safe_open", "load", "from_file", "read_file")
    return [name for name in known if _is_native(values.get(name))]


def _is_native(value: Any) -> bool:
    return id(value) in _ids


def _replace(module: ModuleType, names: Iterable[str], stack: ExitStack) -> None:
    for name in names:
        original = vars(module)[name]
        setattr(module, name, _natives[original])
        stack.callback(setattr, module, name, original)


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if not _active:
        return
    if event == "open":
        path, _, flags = args
        if sys._getframe(1).f_code.co_filename == IMPORT:
            path = _source(path)
        _note(path, flags)
    elif event in ("sqlite3.connect", "ctypes.dlopen"):
        _note(args[0], os.O_RDONLY)


def _source(path: Any) -> Any:
    """The source file of a module that is being imported: Python may open a compiled copy of it."""
    try:
        source = importlib.util.source_from_cache(os.fsdecode(path))
    except (TypeError, ValueError, NotImplementedError):
        return path
    return source if os.path.isfile(source) else path


def _note(path: Any, flags: int) -> None:
    if isinstance(path, (str, bytes, os.PathLike)):  # others are descriptors of files that are open already
        try:
            text = os.path.abspath(os.fsdecode(path))
            for reads in _active:
                reads.note(text, flags)
        except (OSError, ValueError):  # the open itself fails as well
            return


def _within(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or path.startswith(folder.rstrip(os.sep) + os.sep) for folder in folders)


@functools.cache
def _machine() -> tuple[str, ...]:
    """Folders of Python, of installed packages, of the system and of Lethe, and caches of compiled code."""
    python = {sys.prefix, sys.base_prefix, sys.exec_prefix, *sysconfig.get_paths().values(), *site.getsitepackages()}
    lethe = {Path(file).parent for name in LETHE if (file := getattr(sys.modules.get(name), "__file__", None))}
    caches = {os.environ[name] for name in COMPILED if os.environ.get(name)}
    caches |= {str(one) for one in Path(tempfile.gettempdir()).glob("torchinductor_*")}
    caches |= {os.path.expanduser(one) for one in ("~/.triton", "~/.nv", "~/.cache/torch/kernels")}
    known = {*python, site.getusersitepackages(), *map(str, lethe), *caches, *SYSTEM}
    return tuple({place for one in known for place in (os.path.abspath(one), os.path.realpath(one))} - {"/"})
