"""Writes the files that a command leaves for its user: whole, or not at all.

A file is written beside its place under a temporary name and then moved. If the disk is full, the earlier file stays
and no temporary file is left.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.core.store import leftovers
from bench.core.text.printable import ERRORS


class CannotWrite(OSError):
    """A file or a folder can't be written. The message says which one, and why."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(
            f"{path} can't be written ({error.strerror or error}): make room or name another place, then give the "
            "command again"
        )


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path for a new file or folder. It is moved to `path` if the block ends without an error.

    Otherwise it is removed, and `path` stays as it was. Raises CannotWrite if the file system refuses to write.
    """
    try:
        work = leftovers.temporary(path.parent)
        leftovers.sweep(path.parent)
        try:
            yield work
            work.replace(path)
        finally:
            leftovers.delete(work)
    except CannotWrite:
        raise
    except OSError as error:
        raise CannotWrite(path, error) from error


def write(texts: Mapping[Path, str | None]) -> None:
    """Write text files, all or none of them: no file is moved to its place before all of them are written.

    Args:
        texts: path -> its text, which is written in UTF-8. None: an earlier file at this path is removed.

    Raises CannotWrite.
    """
    for path in texts:
        if path.is_dir():
            raise CannotWrite(path, IsADirectoryError(0, "a folder is in its place"))
    with ExitStack() as stack:
        for path, text in texts.items():
            if text is not None:
                work = stack.enter_context(replacing(path))
                try:
                    work.write_text(text, encoding="utf-8", errors=ERRORS, newline="")
                except OSError as error:
                    raise CannotWrite(path, error) from error
    for path in (path for path, text in texts.items() if text is None):
        path.unlink(missing_ok=True)
