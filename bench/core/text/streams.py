"""A standard output that may go away: its reader ends (`| head -1`), or its disk is full.

The command does its work to the end all the same. The standard error says once that the rest of the output is missing.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class LeavableOutput(io.FileIO):
    """A file descriptor that becomes the null device when it can't be written.

    Attributes:
        error: why it could not be written; None if it could.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.error: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        """Write bytes; if that is not possible, say so on the standard error and drop them."""
        try:
            return super().write(data)
        except BlockingIOError:
            raise
        except OSError as error:
            self._leave(error)
            return memoryview(data).nbytes

    def _leave(self, error: OSError) -> None:
        self.error = error
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.fileno())  # also for whatever else writes there, such as another library or process
        os.close(null)
        why = "the reader of the output is gone" if is_reader_gone(error) else f"no output: {error.strerror}"
        with suppress(OSError, ValueError, AttributeError):
            sys.stderr.write(f"{why}; the command goes on, and the rest of the output is left out\n")


def is_reader_gone(error: OSError) -> bool:
    """Whether nobody reads any more what is written."""
    return error.errno in (errno.EPIPE, errno.ECONNRESET)


def let_output_leave() -> None:
    """Give this process a standard output that may go away, unless it is a terminal or was replaced already."""
    stream = sys.stdout
    if stream is None or stream is not sys.__stdout__ or not isinstance(stream, io.TextIOWrapper) or stream.isatty():
        return
    with suppress(OSError, ValueError):  # a stream without a descriptor
        stream.flush()
        raw = LeavableOutput(stream.fileno())
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(raw), stream.encoding, stream.errors, line_buffering=stream.line_buffering
        )


def lost_output() -> OSError | None:
    """Why a part of the standard output of this process was lost; None if nothing was lost, or if nobody reads it."""
    with suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    error = raw.error if isinstance(raw, LeavableOutput) else None
    return None if error is None or is_reader_gone(error) else error
