"""Loads the judge that a file of concepts names."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from bench.core import digest
from bench.worlds.base import Judge, WorldUnavailable
from bench.worlds.judging import checkpoints, zero_shot
from bench.worlds.own.concept_file import PLACE, ConceptFile
from bench.worlds.templates import fill

FUNCTION = "judge"  # name of the function in a python file

Make = Callable[[tuple[str, ...], torch.device], Judge]  # (concepts, device) -> judge


def load(file: ConceptFile, model: str, device: torch.device) -> Judge:
    """The judge of all concepts of the file, in eval mode, frozen, on `device`.

    Args:
        file: the file of concepts.
        model: open_clip's name of the default model.

    Raises WorldUnavailable for a model that can't be loaded, and for a python file that does not make a judge.
    """
    if file.judge.kind == "python":
        return _of_python(Path(file.judge.name), file.concepts, device)
    if file.judge.kind != "open_clip":
        of_library = {"transformers": checkpoints.of_transformers, "timm": checkpoints.of_timm}[file.judge.kind]
        made = of_library(file.judge.name, file.concepts, file.judge.labels)
        made.module.eval().requires_grad_(False).to(device)
        return made
    ensemble = [sentences(file, concept) for concept in file.concepts]
    return zero_shot.load(file.judge.name or model, file.concepts, ensemble, device)


def sentences(file: ConceptFile, concept: str) -> list[str]:
    """The sentences that describe a concept to a zero-shot judge: those of the entry `judge`, or all of its prompts."""
    of_domain = next(file.prompts[domain] for domain, members in file.domains.items() if concept in members)
    templates = file.judge.sentences or (*of_domain["forget"], *of_domain["evaluate"])
    return [fill(template, concept, PLACE) for template in templates]


def _of_python(path: Path, concepts: Sequence[str], device: torch.device) -> Judge:
    said = f"the judge file {path}"
    make = _function(path, said)
    try:
        made = make(tuple(concepts), device)
    except WorldUnavailable:
        raise
    except Exception as error:
        raise WorldUnavailable(f"{said}: {FUNCTION} raised {type(error).__name__}: {error}") from error
    if not isinstance(made, Judge):
        raise WorldUnavailable(
            f"{said}: {FUNCTION} returned {type(made).__name__}; it must return a bench.worlds.Judge"
        )
    made.module.eval().requires_grad_(False).to(device)
    return made


def _function(path: Path, said: str) -> Make:
    """The function `judge` of a python file. The file is run once for each content."""
    name = f"lethe_judge_{digest.of_json([str(path), digest.of_file(path)])[:12]}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise WorldUnavailable(f"{said} is no python file (.py)")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            del sys.modules[name]
            raise WorldUnavailable(f"{said} can't be run ({type(error).__name__}: {error})") from error
    make = getattr(sys.modules[name], FUNCTION, None)
    if not callable(make):
        raise WorldUnavailable(
            f"{said} has no function {FUNCTION}; it must define {FUNCTION}(concepts, device) -> bench.worlds.Judge"
        )
    return make  # type: ignore[no-any-return]
