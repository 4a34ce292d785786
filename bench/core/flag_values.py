"""The values of flags: from the words of a command line, and for a process or a reader elsewhere."""

from __future__ import annotations

from pathlib import Path

from bench.core.filenames import is_local, last_part, without_folders

MAX_SEED = 2**63 - 1  # torch takes no larger one
MAX_SEEDS = 10_000  # training seeds of a run


def absolute(path: str) -> Path:
    """The absolute path for a path as typed; "~" is the user's home folder."""
    return Path(path).expanduser().resolve()


def number_or_name(text: str) -> str:
    """The text unchanged, for a flag that takes a number or a name."""
    return text


def parse_seeds(text: str) -> tuple[int, ...]:
    """Training seeds: "3" means the first three, "4,5" means these two, "7," means that one. Raises ValueError.

    >>> parse_seeds("3"), parse_seeds("4,5"), parse_seeds("7,")
    ((0, 1, 2), (4, 5), (7,))
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts if part) or not any(parts):
        raise ValueError(f"{text!r} is neither a number of seeds ('3') nor a list of seeds ('4,5', or '7,')")
    if "," in text:
        seeds = tuple(int(part) for part in parts if part)
        if max(seeds) > MAX_SEED:
            raise ValueError(f"a seed must be at most {MAX_SEED}, not {max(seeds)}")
        return seeds
    if int(text) < 1:
        raise ValueError(f"--seeds must be at least 1, not {text}")
    if int(text) > MAX_SEEDS:
        raise ValueError(f"--seeds must be at most {MAX_SEEDS}, not {text}; a comma makes it a seed: {text},")
    return tuple(range(int(text)))


def write_seeds(seeds: tuple[int, ...]) -> tuple[str, ...]:
    """The word that `parse_seeds` turns into `seeds`."""
    if seeds == tuple(range(len(seeds))):
        return (str(len(seeds)),)
    return (",".join(map(str, seeds)) + "," * (len(seeds) == 1),)


def model_elsewhere(source: str | None) -> str | None:
    """The absolute path of a model's folder or file; a name or a hub id is returned unchanged."""
    return str(Path(source).absolute()) if source is not None and Path(source).exists() else source


def models_elsewhere(words: tuple[str, ...]) -> tuple[str, ...]:
    """The words of --models with absolute paths; hub ids are returned unchanged."""
    found = []
    for word in words:
        name, equals, pattern = word.partition("=") if "=" in word else ("", "", word)
        path = Path(pattern).expanduser()
        fixed = next((parent for parent in (path, *path.parents) if "{" not in str(parent)), path)
        local = is_local(pattern) or (fixed != Path() and fixed.exists())
        found.append(name + equals + (str(path.absolute()) if local else pattern))
    return tuple(found)


def shared_model(source: str | None) -> str | None:
    """A model's name or hub id, or the last part of its path. A text that names an existing folder counts as a path."""
    return source and (last_part(source) if is_local(source) else without_folders(source))
