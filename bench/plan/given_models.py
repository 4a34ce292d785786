"""Finished models that a run measures as rows: which file or folder each row has for each task and seed.

A user names them by patterns (`--models`). An oracle, a model that was trained from scratch without one concept, is a
finished model of which the world knows the file.
"""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from bench.backbones import hub
from bench.backbones.given import model
from bench.core.filenames import FILES, is_junk, is_local
from bench.core.registry import nearest
from bench.core.task import Task
from bench.core.text.unique_names import UniqueNames
from bench.worlds.base import World, WorldUnavailable
from methods import METHODS, ORACLE

log = logging.getLogger(__name__)

Place = tuple[str, int]  # name of a task, training seed
Found = dict[str, dict[Place, Path]]  # row -> task and seed -> file or folder of the model
PLACE = re.compile(r"\{(\w*)\}")
KNOWN = ("concept", "task", "seed", "step")
HUB = re.compile(r"[\w.{}-]+/[\w.{}-]+")
SHOWN = 6  # names in a message


@dataclass(frozen=True)
class Source:
    """Where the models of one row are.

    Args:
        name: the row.
        pattern: a path or a hub id with {concept}, {task}, {seed} or {step}; "" if `each` has the paths.
        each: task or concept -> path or hub id.
        base: the folder that relative paths start from.
    """

    name: str
    pattern: str
    each: Mapping[str, str]
    base: Path


def sources(words: Iterable[str]) -> tuple[Source, ...]:
    """The sources that the words of `--models` name: "NAME=PATTERN", or a YAML file of them.

    Raises ValueError for a word of another form, for a name that is taken, and for an unknown place in braces. Raises
    FileNotFoundError for a YAML file that does not exist.
    """
    found: list[Source] = []
    for word in words:
        name, equals, pattern = word.partition("=")
        if equals:
            found.append(Source(name, pattern, {}, Path()))
        elif word.lower().endswith((".yaml", ".yml")):
            found += _of_yaml(Path(word).expanduser())
        else:
            raise ValueError(f"--models takes NAME=PATTERN, or a .yaml file of names and paths, not {word!r}")
    for source in found:
        _require_usable(source)
    names = [source.name.removesuffix("@{step}") for source in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"--models: the name {twice[0]!r} is given twice; each model is a row of its own")
    return tuple(found)


def _of_yaml(file: Path) -> Iterator[Source]:
    if not file.is_file():
        raise FileNotFoundError(f"--models {file}: there is no such file")
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), UniqueNames)  # a safe loader
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"--models {file} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or not content:
        raise ValueError(
            f"--models {file} must have NAME: PATTERN, or NAME: with a path for each task, and has neither"
        )
    for name, value in content.items():
        each = value if isinstance(value, dict) else {}
        if not isinstance(name, str) or not (isinstance(value, str) or each):
            raise ValueError(f"--models {file}: {name!r} must have a path, or a path for each task, not {value!r}")
        if wrong := [one for pair in each.items() for one in pair if not isinstance(one, str)]:
            raise ValueError(f"--models {file}: {name!r} has {wrong[0]!r}, which is no text; put it in quotation marks")
        yield Source(name, "" if each else value, each, file.parent)


def _require_usable(source: Source) -> None:
    name, where = source.name.removesuffix("@{step}"), f"--models {source.name}"
    if not name or name != name.strip() or any(mark in name for mark in "{}@=") or not name.isprintable():
        raise ValueError(
            f"{where}: a model's name must be a printable text without @, =, braces or outer spaces; @{{step}} may end "
            "it"
        )
    if name in METHODS:
        raise ValueError(f"{where}: {name!r} is a method; choose another name for the model")
    for text in source.each.values() if source.each else (source.pattern,):
        if not text.strip():
            raise ValueError(f"{where}: the path is empty")
        for place in PLACE.findall(text):
            if place not in KNOWN:
                raise ValueError(f"{where}: {{{place}}} is unknown; {nearest(place, KNOWN)}")
    if ("{step}" in source.pattern) != ("@{step}" in source.name):
        raise ValueError(
            f"{where}: a row for each step takes {{step}} in both, as in 'theirs@{{step}}=ckpt-{{step}}.pt'"
        )


def find(words: Sequence[str], tasks: Sequence[Task], seeds: Sequence[int]) -> Found:
    """The models of `--models`, by row, task and seed. A row need not have a model for every task.

    Args:
        words: the words of `--models`.
        tasks: the tasks of the run. A task that trains a model further has the model of the task before it.
        seeds: the training seeds of the run.

    Raises ValueError like `sources`, for a task that two files fit, and for one file that would stand for several
    tasks. Raises FileNotFoundError if a row has no model at all.
    """
    found: Found = {}
    for source in sources(words):
        rows = _of_each(source, tasks, seeds) if source.each else _of_pattern(source, tasks, seeds)
        found |= rows
    return found


def _of_each(source: Source, tasks: Sequence[Task], seeds: Sequence[int]) -> Found:
    places: dict[Place, Path] = {}
    for task in tasks:
        asked = _asked(task)
        texts = [source.each[name] for name in dict.fromkeys((asked.name, *asked.forget[:1])) if name in source.each]
        for text in texts[:1]:
            kept = Source(source.name, text, {}, source.base)
            for seed in seeds:
                path = _one(kept, [_filled(text, seed=str(seed))])
                if path is None:
                    raise FileNotFoundError(f"--models {source.name}: there is no {text}, the model for {asked.name!r}")
                places[task.name, seed] = path
    if not places:
        names = ", ".join(dict.fromkeys(_asked(task).name for task in tasks))
        raise FileNotFoundError(
            f"--models {source.name} has a model for {', '.join(source.each)}; this run has the tasks {names}"
        )
    return {source.name: places}


def _of_pattern(source: Source, tasks: Sequence[Task], seeds: Sequence[int]) -> Found:
    asked = {task.name: _asked(task) for task in tasks}
    if len(set(asked.values())) > 1 and not {"concept", "task"} & set(PLACE.findall(source.pattern)):
        raise ValueError(
            f"--models {source.name}={source.pattern}: one model would stand for {len(set(asked.values()))} tasks, "
            "each of which forgets another concept; write {concept} or {task} where their names stand in the path, or "
            "choose one concept by --forget"
        )
    if "{concept}" in source.pattern and (several := [task for task in asked.values() if len(task.forget) > 1]):
        raise ValueError(
            f"--models {source.name}: the task {several[0].name!r} forgets {len(several[0].forget)} concepts, so "
            "{concept} is not one name; use {task}"
        )
    found: Found = {}
    tried: list[str] = []
    for task, seed in itertools.product(tasks, seeds):
        texts = _candidates(source.pattern, asked[task.name], seed)
        tried += texts
        if "{step}" in source.pattern:
            rows = {source.name.replace("{step}", str(n)): path for n, path in _steps(source, texts).items()}
        else:
            rows = {source.name: path} if (path := _one(source, texts)) else {}
        for row, file in rows.items():
            found.setdefault(row, {})[task.name, seed] = file
    if not found:
        there = _beside(source, tried[0])
        raise FileNotFoundError(
            f"--models {source.name}: there is no model; tried {_list(dict.fromkeys(tried))}"
            + (f"; there are {_list(there)}" if there else "")
        )
    if "{step}" in source.pattern:
        found = {name: found[name] for name in sorted(found, key=lambda name: int(name.rpartition("@")[2]))}
    return found


def _asked(task: Task) -> Task:
    """The task whose weights a model has: the last request of a task that trains further."""
    return task.chain[-1]


def _filled(text: str, **places: str) -> str:
    return PLACE.sub(lambda place: places.get(place[1], place[0]), text)


def _candidates(pattern: str, task: Task, seed: int) -> list[str]:
    """The paths that a pattern may mean: with the names as they are, with _ and with - for their spaces."""
    texts = [
        _filled(pattern, concept=task.forget[0].replace(" ", mark), task=task.name.replace(" ", mark), seed=str(seed))
        for mark in (" ", "_", "-")
    ]
    return list(dict.fromkeys(texts))


def _one(source: Source, texts: Sequence[str]) -> Path | None:
    """The file or folder that one of `texts` names; None without one. Raises ValueError if two of them name one."""
    there = {text: path for text in texts if (path := _path(source, text))}
    if len(there) > 1:
        raise ValueError(f"--models {source.name}: {' and '.join(there)} both fit; keep one of them")
    return next(iter(there.values()), None)


def _path(source: Source, text: str) -> Path | None:
    if _on_hub(source, text):
        repo, _, within = text.partition(":")
        return hub.part(repo, within)
    path = source.base / Path(text).expanduser()
    return path if path.exists() else None


def _on_hub(source: Source, text: str) -> bool:
    """Whether a text is a hub id, with a subfolder or a file after a colon, and not a path."""
    repo, colon, _ = text.partition(":")
    if not HUB.fullmatch(repo) or is_local(text) or (source.base / text).exists():
        return False
    return bool(colon) or not (text.endswith(FILES) or (source.base / text).parent.is_dir())


def _steps(source: Source, texts: Sequence[str]) -> dict[int, Path]:
    """Step -> file, of all files whose path has a number where {step} stands."""
    steps: dict[int, Path] = {}
    for text in texts:
        if _on_hub(source, text):
            raise ValueError(f"--models {source.name}: {{step}} takes files on this machine, not the hub's")
        path = source.base / Path(text).expanduser()
        fixed = next(parent for parent in path.parents if "{step}" not in str(parent))
        depth = len(path.relative_to(fixed).parts)
        form = re.compile(
            re.escape(str(path)).replace(re.escape("{step}"), r"(\d+)", 1).replace(re.escape("{step}"), r"\1")
        )
        for one in fixed.glob("/".join("*" * depth)) if fixed.is_dir() else ():
            if fits := form.fullmatch(str(one)):
                if int(fits[1]) in steps:
                    raise ValueError(
                        f"--models {source.name}: {one} and {steps[int(fits[1])]} both fit; keep one of them"
                    )
                steps[int(fits[1])] = one
    return steps


def _beside(source: Source, text: str) -> list[str]:
    """What is in the folder where a model was expected, or in the repository of the hub."""
    if _on_hub(source, text):
        repo, _, within = text.partition(":")
        return list(hub.names(repo)) if within else []
    path = source.base / Path(text).expanduser()
    folder = next((parent for parent in path.parents if parent.is_dir()), None)
    return [] if folder is None else sorted(entry.name for entry in folder.iterdir() if not is_junk(entry.name))


def _list(names: Iterable[str]) -> str:
    known = list(names)
    return ", ".join(known[:SHOWN]) + (", ..." if len(known) > SHOWN else "")


def check(found: Found, folder: Path) -> None:
    """Compare the tensors of every model with the backbone in `folder`, by their names and shapes.

    Raises ValueError or FileNotFoundError like `bench.backbones.given.model.check`.
    """
    seen: set[Path] = set()
    for name, places in found.items():
        for path in places.values():
            if path not in seen:
                seen.add(path)
                try:
                    model.check(path, folder)
                except ValueError as error:
                    raise ValueError(f"--models {name}: {error}") from error


def oracles(world: World, tasks: Sequence[Task], seeds: Sequence[int], folder: Path, asked: bool) -> Found:
    """The oracles of a world, by task and seed; {} without an oracle for a task.

    A damaged oracle is left out with a warning. Raises WorldUnavailable for it where the oracle was `asked` for by
    name, and ValueError if there is no oracle then.
    """
    places: dict[Place, Path] = {}
    for task in tasks:
        if len(task.forget) != 1:
            continue
        try:
            file = oracle_of(world, task.forget[0])
            if file is not None:
                _require_oracle(file, folder)
                places |= {(task.name, seed): file for seed in seeds}
        except WorldUnavailable as error:
            if asked:
                raise
            log.warning("no oracle row for %s: %s", task.name, error)
    if asked and not places:
        raise ValueError(f"no oracle for what this run forgets: {oracle_hint(world)}")
    return {ORACLE: places} if places else {}


def oracle_of(world: World, concept: str) -> Path | None:
    """The file of the oracle without `concept`; None if the world has no such oracle, or it was not built here.

    Raises WorldUnavailable for a file that is damaged or belongs to another default backbone.
    """
    return world.oracle(concept) if concept in world.oracle_concepts else None


def _require_oracle(file: Path, folder: Path) -> None:
    try:
        model.check(file, folder, whole=True)
    except (ValueError, OSError) as error:
        raise WorldUnavailable(f"{file} is no oracle of this backbone: {error}") from error


def oracle_hint(world: World) -> str:
    """One sentence for a user: which oracles the world has, and how to build them."""
    if not world.oracle_concepts:
        return f"the world {world.name!r} has no oracle, a model retrained without a concept"
    return f"the world {world.name!r} has oracles of {', '.join(world.oracle_concepts)}: {world.oracle_hint}"
