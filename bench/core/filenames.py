"""Names of files without the folders they are in: what tables, reports and archives may say about them.

A folder of the machine that made a file helps nobody else, and may name a person or a project.
"""

from __future__ import annotations

import re
from pathlib import Path

FILES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".py", ".json", ".npz", ".csv", ".yaml")
# "birds=", then "open_clip:", "hf-hub:" and the like; one letter and a colon are a drive of Windows
HEAD = re.compile(r"((?:[^=:/\\]+=)?(?:[\w-]{2,}:)*)(.*)", re.DOTALL)
DRIVE = re.compile(r"[A-Za-z]:")
# not in the middle of a relative path or of an address; at least two parts after a plain slash, as in "and /or/ ..."
IN_TEXT = re.compile(
    r"(?<![\w.:/\\~-])(?:(?:~[\w.-]*|\.{1,2}|[A-Za-z]:)(?:[/\\]+[\w.@+~-]+)+|(?:/+[\w.@+~-]+){2,}|\\\\[\w.@+~\\-]+)[/\\]?"
)


def without_folders(text: str, model: bool = False) -> str:
    """A file's name in place of its path, also within the name of a judge; other names stay.

    Args:
        text: a path, a name, a hub id, or one of them as part of a judge's name.
        model: whether it is MODEL/WEIGHTS as open_clip has it, where WEIGHTS may be a path; after "open_clip:" it is.

    >>> without_folders("birds=/data/judges/j.safetensors"), without_folders("open_clip:ViT-B-32//data/x.bin")
    ('birds=j.safetensors', 'open_clip:ViT-B-32/x.bin')
    >>> without_folders("../models/sd15"), without_folders("CompVis/stable-diffusion-v1-4")
    ('sd15', 'CompVis/stable-diffusion-v1-4')
    """
    found = HEAD.fullmatch(text)
    assert found is not None  # any text fits
    head, place = found.groups()
    architecture, slash, weights = place.partition("/")
    if slash and (model or head.endswith("open_clip:")) and not head.endswith(("hf-hub:", "local-dir:")):
        return f"{head}{architecture}/{last_part(weights)}"
    return head + (last_part(place) if _is_path(place) else place)


def last_part(path: str) -> str:
    """The last part of a path in the manner of any system: of "C:\\models\\x.bin" it is "x.bin"."""
    parts = [part for part in re.split(r"[/\\]", DRIVE.sub("", path, count=1)) if part]
    return parts[-1] if parts else path


def without_paths(text: str) -> str:
    """Text for people with every path cut down to its last part; single words with a slash, "a/b", stay."""
    return IN_TEXT.sub(lambda found: last_part(found.group()), text)


def within(folder: Path, path: str) -> str:
    """A path relative to `folder`, with "/" on every system; of one that is elsewhere the last part alone."""
    try:
        return Path(path).resolve().relative_to(folder.resolve()).as_posix()
    except ValueError:
        return last_part(path)


def is_local(source: str) -> bool:
    """Whether `source` names a file or folder of this machine: by its first letter, or because it exists."""
    return source.startswith((".", "/", "~")) or Path(source).expanduser().exists()


def _is_path(place: str) -> bool:
    begins = place.startswith(("/", "~", ".")) or "\\" in place or DRIVE.match(place) is not None
    return begins or place.count("/") > 1 or ("/" in place and place.endswith(FILES))
