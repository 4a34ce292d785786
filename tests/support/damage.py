"""Ways in which files of a store are damaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

FILE = ("cut", "empty", "flipped", "no json", "other json", "missing", "swapped", "folder", "loop", "unreadable")
FOLDER = ("missing", "empty", "file", "swapped", "loop", "unreadable")  # of a whole entry
OTHER_JSON = ("[]", "null", "3", '"text"', "{}", '{"key": {}, "facts": {}}', '{"key": [], "facts": {}, "content": ""}')


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def of_file(path: Path, how: str, place: int, other: Path) -> None:
    """Damage one file.

    Args:
        path: the file.
        how: one of FILE.
        place: says which bit is flipped, where the file is cut, or which other JSON it gets.
        other: a file of the same name of another entry.
    """
    data = path.read_bytes()
    if how == "cut":
        path.write_bytes(data[: place % len(data)])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "flipped":
        at, bit = divmod(place % (8 * len(data)), 8)
        path.write_bytes(data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :])
    elif how == "no json":
        path.write_text("{" * (1 + place % 9))
    elif how == "other json":
        path.write_text(OTHER_JSON[place % len(OTHER_JSON)])
    elif how == "swapped":
        path.write_bytes(other.read_bytes())
    elif how == "unreadable":
        path.chmod(0)
    else:
        path.unlink()
        if how == "folder":
            path.mkdir()
        elif how == "loop":
            path.symlink_to(path.name)


def of_entry(path: Path, how: str, other: Path) -> None:
    """Damage a whole entry; `how` is one of FOLDER, `other` another entry of the same kind."""
    if how == "unreadable":
        path.chmod(0)
        return
    shutil.rmtree(path)
    if how == "empty":
        path.mkdir()
    elif how == "file":
        path.write_text("no folder")
    elif how == "swapped":
        shutil.copytree(other, path)
    elif how == "loop":
        path.symlink_to(path.name)


def same_json(one: Path, text: str) -> bool:
    """Whether a file has the JSON of `text`: a flipped bit of white space may change nothing."""
    try:
        return bool(json.loads(one.read_text()) == json.loads(text))
    except (OSError, ValueError):
        return False


def temporary_files(root: Path) -> list[str]:
    """Relative paths of everything below a folder that is no finished file of a store or a board."""
    marks = (".new-", ".stale-", ".break.", ".leases/")
    found = [path.relative_to(root).as_posix() for path in root.rglob("*")]
    return sorted(path for path in found if any(mark in path for mark in marks))
