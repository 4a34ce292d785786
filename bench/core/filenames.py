"""Names of files: without their folders, for what other people read, and for files that are named after something.

The path of a folder is useless on another machine, and it may contain the name of a person or a project. A world, a
suite or a concept may have any name, but the name of a file has to be short and portable.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

FILES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".py", ".json", ".npz", ".csv", ".yaml")
# "birds=", then prefixes such as "open_clip:" or "hf-hub:"; one letter with a colon is a drive on Windows
HEAD = re.compile(r"((?:[^=:/\\]+=)?(?:[\w-]{2,}:)*)(.*)", re.DOTALL)
MAX_STEM = 80  # characters of the name of a file, without its ending
DIGITS = 8  # hex digits of the digest, which tells names apart that have the same words
DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)")  # names that Windows reserves
DRIVE = re.compile(r"[A-Za-z]:")
# The match does not begin in the middle of a relative path or a URL. A path that begins with one slash has at least
# two parts.
IN_TEXT = re.compile(
    r"(?<![\w.:/\\~-])(?:(?:~[\w.-]*|\.{1,2}|[A-Za-z]:)(?:[/\\]+[\w.@+~-]+)+|(?:/+[\w.@+~-]+){2,}|\\\\[\w.@+~\\-]+)[/\\]?"
)


def without_folders(text: str, model: bool = False) -> str:
    """`text` with a file's name instead of its path; a text that contains no path is returned unchanged.

    Args:
        text: a path, a name, a hub id, or the name of a judge that contains one of these.
        model: whether `text` has open_clip's form MODEL/WEIGHTS, where WEIGHTS may be a path. A text after
            "open_clip:" always has this form.

    >>> without_folders("birds=/data/judges/j.safetensors"), without_folders("open_clip:ViT-B-32//data/x.bin")
    ('birds=j.safetensors', 'open_clip:ViT-B-32/x.bin')
    >>> without_folders("../models/sd15"), without_folders("CompVis/stable-diffusion-v1-4")
    ('sd15', 'CompVis/stable-diffusion-v1-4')
    """
    found = HEAD.fullmatch(text)
    assert found is not None  # HEAD matches every text
    head, name = found.groups()
    architecture, slash, weights = name.partition("/")
    if slash and (model or head.endswith("open_clip:")) and not head.endswith(("hf-hub:", "local-dir:")):
        return f"{head}{architecture}/{last_part(weights)}"
    return head + (last_part(name) if _is_path(name) else name)


def stem(name: str) -> str:
    """The name of a file, without an ending, for something called `name`; another `name` has another one.

    It has at most `MAX_STEM` lower-case letters, digits and the characters ".+_-". If `name` itself has another form, a
    digest of `name` stands at the end.

    >>> stem("tuning-pocket"), stem("AC/DC"), stem("熊猫"), stem("con")
    ('tuning-pocket', 'ac-dc-5a5abe39', '983c9a43', 'con-1143da2b')
    """
    slug = slugged(name)
    if slug == name and len(slug) <= MAX_STEM and not DEVICE.match(slug):
        return name
    if DEVICE.match(slug):
        slug = slug.replace(".", "-", 1)  # Windows reserves "nul.txt" as well as "nul"
    told_apart = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:DIGITS]
    return f"{slug[: MAX_STEM - DIGITS - 1].rstrip('-.+')}-{told_apart}".lstrip("-")


def slugged(name: str) -> str:
    """`name` in lower-case letters, digits and ".+_-". Different names may give the same text, also the empty one."""
    return re.sub(r"[^a-z0-9.+_]+", "-", name.lower()).strip("-.")


def last_part(path: str) -> str:
    """The last part of a path of any operating system: "x.bin" for "C:\\models\\x.bin"."""
    parts = [part for part in re.split(r"[/\\]", DRIVE.sub("", path, count=1)) if part]
    return parts[-1] if parts else path


def without_paths(text: str) -> str:
    """`text` with only the last part of every path in it; words such as "a/b" are not paths and stay as they are."""
    return IN_TEXT.sub(lambda found: last_part(found.group()), text)


def within(folder: Path, path: str) -> str:
    """`path` relative to `folder`, with "/" on every system; only its last part if it is not inside `folder`."""
    try:
        return Path(path).resolve().relative_to(folder.resolve()).as_posix()
    except ValueError:
        return last_part(path)


def is_local(source: str) -> bool:
    """Whether `source` is a path on this machine: it begins with ".", "/" or "~", or it exists."""
    if source.startswith((".", "/", "~")):
        return True
    try:
        return Path(source).exists()
    except OSError:  # too long for a path
        return False


def _is_path(name: str) -> bool:
    begins = name.startswith(("/", "~", ".")) or "\\" in name or DRIVE.match(name) is not None
    return begins or name.count("/") > 1 or ("/" in name and name.endswith(FILES))


# What operating systems, file browsers, editors and browsers leave in folders, in small letters
JUNK_NAMES = {
    *("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "$recycle.bin", "system volume information"),
    *("icon\r", "__macosx", ".appledouble", ".trashes", ".spotlight-v100", ".fseventsd", ".temporaryitems"),
    *("@eadir", "#recycle", "lost+found", ".stfolder", "__pycache__", ".ipynb_checkpoints"),
}
JUNK_ENDINGS = ("~", ".tmp", ".temp", ".swp", ".bak", ".part", ".crdownload")
JUNK_BEGINNINGS = ("._", "~$", ".~lock.", ".trash-", ".nfs", ".fuse_hidden")


def is_junk(name: str, is_folder: bool = False) -> bool:
    """Whether a file or folder with this name was left by an operating system or an editor, so that it is not data.

    Every hidden file (".DS_Store") counts as such, but not every hidden folder.

    >>> is_junk("._1.jpg"), is_junk("Thumbs.db"), is_junk("1.jpg")
    (True, True, False)
    """
    small = name.lower()
    left = small in JUNK_NAMES or small.endswith(JUNK_ENDINGS) or small.startswith(JUNK_BEGINNINGS)
    return left or (name.startswith(".") and not is_folder)
