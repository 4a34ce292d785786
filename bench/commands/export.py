"""The command `export`: writes the model of a finished cell in Stable Diffusion's format."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from safetensors import SafetensorError
from safetensors.torch import save_file

from bench.backbones import folder
from bench.backbones.given import model
from bench.backbones.pipeline import owners, read
from bench.cells.artifacts import Artifacts, Context
from bench.commands import arguments
from bench.commands.run import prepared
from bench.core import digest
from bench.core.config import RunConfig
from bench.core.registry import nearest
from bench.core.store import TensorsDiscarded, output_files
from bench.core.text.terminal import say
from bench.plan import given_models
from bench.plan.plan import PROTOCOL, Cell, Plan, resolve
from bench.training import attachment

NOTE = "lethe.json"
ATTACHED = "attached.safetensors"  # tensors that act while images are sampled
LEFT_OUT = ("safety_checker", "feature_extractor", "image_encoder")  # parts of the backbone that Lethe never loads
ABOUT = """\
Write the model of a finished cell as a folder that diffusers loads. The cell is
read from the store: give the flags of the run that computed it. If the method acts
while images are sampled, the command says what diffusers needs for that."""
EPILOG = """\
examples:
  python run_bench.py export "mimmu/tulip" --to tulip-free
  python run_bench.py export "mimmu/red rose/1" --seeds 2 --out boards --to no-roses"""
CHECKER = "off: it was never loaded, and is left out here; add one before others use the model"


def add_flags(p: argparse.ArgumentParser) -> None:
    """Add the flags of `export`: those of a run, the cell and the folder."""
    p.add_argument("cell", metavar="CELL", help="METHOD/TASK or METHOD/TASK/SEED")
    p.add_argument("--to", type=arguments.typed(Path), required=True, metavar="DIR", help="new folder for the model")
    arguments.add_run(p, spread=True)


def run(args: argparse.Namespace, words: Sequence[str], console: Console) -> int:
    """Write the model. Returns 0."""
    with arguments.refusing():
        stems = [source.name.partition("@")[0] for source in given_models.sources(getattr(args, "models", ()))]
        is_model = any(args.cell.startswith((f"{stem}/", f"{stem}@")) for stem in stems)
        name = args.cell.partition("/")[0].partition(" ")[0]  # of "mimmu t_max=300", a row of a sweep
        method = [name] if "/" in args.cell and not is_model else []
        args.methods = [*getattr(args, "methods", RunConfig().methods), *method]
        _, _, seed = parse(resolve(arguments.run_config(args)), args.cell)
        if seed is not None:
            args.seeds = (seed,)
        require_new(args.to)
        arguments.require_writable(args.to.absolute().parent, "--to")
    plan, _ = prepared(args, console, writes=False)
    try:
        to = export(plan, args.cell, args.to)
    except ValueError as error:
        raise arguments.CannotRun(str(error)) from error
    say(console, f"written: {to}")
    if acting := json.loads((to / NOTE).read_text(encoding="utf-8")).get(attachment.FACT):
        say(console, _told(acting))
    return 0


def parse(plan: Plan, cell: str) -> tuple[str, str, int | None]:
    """The method, task and seed in METHOD/TASK/SEED or METHOD/TASK, whose seed is None.

    Names may contain slashes, so those of the plan's methods and tasks are tried first. The seed need not be one of
    the plan. Raises ValueError if `cell` has another form.
    """
    before, _, last = cell.rpartition("/")
    seed = int(last) if re.fullmatch("[0-9]+", last) else None
    for named, number in ((cell, None), *([(before, seed)] if seed is not None else [])):
        for method in plan.methods:
            if any(named == f"{method}/{task.name}" for task in plan.tasks):
                return method, named.removeprefix(f"{method}/"), number
    rest, number = (before, seed) if seed is not None and "/" in before else (cell, None)
    method, _, task = rest.partition("/")
    if not (method and task):
        raise ValueError(f"export takes METHOD/TASK or METHOD/TASK/SEED, e.g. 'mimmu/red rose/0', not {cell!r}")
    return method, task, number


def find(plan: Plan, cell: str) -> Cell:
    """The cell of `plan` with the name METHOD/TASK/SEED. The seed may be missing if the run has only one.

    Raises ValueError if the run does not have the method, the task or the seed.
    """
    method, task, seed = parse(plan, cell)
    tasks = [t.name for t in plan.tasks]
    if task not in tasks:
        raise ValueError(f"suite {plan.run.suite!r} has no task {task!r}: {nearest(task, tasks)}")
    found = [c for c in plan.cells if c.method == method and c.task.name == task and seed in (None, c.seed)]
    if not found:
        raise ValueError(f"this run has no {cell!r}: {nearest(method, plan.methods)}; seeds {plan.run.seeds}")
    if len(found) > 1:
        raise ValueError(f"the run has several seeds: name one, {cell}/{found[0].seed}")
    return found[0]


def require_new(to: Path) -> None:
    """Raise ValueError unless `to` does not exist or is an empty folder."""
    if to.exists() and not (to.is_dir() and not any(to.iterdir())):
        raise ValueError(f"--to {to}: the path exists and is not an empty folder; name a new or an empty folder")


def export(plan: Plan, cell: str, to: Path) -> Path:
    """Write the finished cell's model, or a finished model from elsewhere, to the folder `to` and return `to`.

    Raises ValueError if `to` is not a free path, if the run has no such cell, or if the store lacks the cell or its
    weights.
    """
    require_new(to)
    found = find(plan, cell)
    artifacts = Artifacts(Context(plan))
    about = {
        "method": found.method,
        "task": found.task.name,
        "forget": found.task.forget,
        "seed": found.seed,
        "config": digest.plain(found.config),
        "backbone": artifacts.context.content,
    }
    if found.given and found.task.finetune is None:  # read again, since the store does not keep it
        given = model.read(found.given, plan.folder, artifacts.context.backbone)
        write(plan.folder, given.tensors, about, to)
        return to
    weights = artifacts.store.get("deltas", artifacts.weights.key(found))
    if weights is None:
        raise ValueError(
            f"{found.name} is not in {artifacts.store.root}; this command computes it:\n  {_command(plan, found)}"
        )
    try:
        tensors = weights.tensors()
    except TensorsDiscarded:
        if found.task.finetune is not None:
            raise ValueError(
                f"{found.name} is finished, but the store does not keep the weights of models that were trained further"
            ) from None
        anew = _command(plan, found, force=True)
        raise ValueError(
            f"{found.name} is finished, but its results were imported without the weights; this command computes the "
            f"cell again, with its weights:\n  {anew}"
        ) from None
    networks, attached = attachment.split(tensors)
    if acting := weights.facts.get(attachment.FACT):
        call, lacking = plan.methods[found.method](found.config).export(acting["concepts"])
        about[attachment.FACT] = {**acting, "diffusers": call, "lacking": lacking}
    write(plan.folder, networks, about, to, attached)
    return to


def _told(acting: Mapping[str, Any]) -> str:
    """What a user of diffusers must know about a method that acts while images are sampled."""
    name, call = acting["method"], acting["diffusers"]
    said = f"{name} acts while images are sampled, and the weights in the folder do not contain it"
    if call:
        more = "".join(f", {key}={value!r}" for key, value in call.items() if key not in ("pipeline", "call"))
        given = ", ".join(f"{key}={value!r}" for key, value in call["call"].items())
        said += f"; with diffusers, use {call['pipeline']}{more} and call it with {given}"
    if acting["lacking"]:
        said += f"; diffusers can't do this: {acting['lacking']}"
    return f"{said}; {NOTE} has its settings and the words for the concepts"


def _command(plan: Plan, cell: Cell, force: bool = False) -> str:
    """The command that computes the cell, and other cells of its method and seed."""
    name, run = plan.base_method(cell.method), plan.run
    kept = {section: texts for section, texts in run.overrides.items() if section in (name, PROTOCOL)}
    swept = {section: fields for section, fields in run.sweep.items() if section == name}
    run = dataclasses.replace(run, methods=(name,), seeds=(cell.seed,), overrides=kept, sweep=swept, force=force)
    return run.command


def write(
    backbone: Path,
    delta: Mapping[str, torch.Tensor],
    about: Mapping[str, Any],
    to: Path,
    attached: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Write the pipeline folder `backbone` with the changed tensors `delta` as the new folder `to`.

    The networks are stored in fp32, so the values of `delta` are exact. Tokenizer and scheduler are copied. A safety
    checker is left out. If writing fails, `to` does not exist afterwards.

    Args:
        backbone: folder of a diffusers pipeline.
        delta: parameter name -> tensor, of the U-Net or of the text encoder.
        about: facts about the model, for the file lethe.json.
        to: the new folder.
        attached: tensors that act while images are sampled, for the file attached.safetensors; None or empty for none.

    Raises ValueError if neither the U-Net nor the text encoder has a tensor of `delta`, and CannotWrite.
    """
    pipeline = read(backbone)
    for network, tensors in owners(pipeline, delta):
        network.load_state_dict(tensors, strict=False)
    with output_files.replacing(to) as made, _as_os_error():
        made.mkdir()
        for name in folder.OTHERS:
            shutil.copytree(backbone / name, made / name, ignore=shutil.ignore_patterns(".*"))
        index = json.loads((backbone / folder.INDEX).read_text(encoding="utf-8"))
        index |= {name: [None, None] for name in LEFT_OUT if name in index} | {"requires_safety_checker": False}
        (made / folder.INDEX).write_text(json.dumps(index, indent=2) + "\n")
        for name in folder.NETWORKS:
            getattr(pipeline, name).save_pretrained(made / name)
        for file in made.glob("*/config.json"):
            part = json.loads(file.read_text(encoding="utf-8"))
            part.pop("_name_or_path", None)  # the folder of the backbone, which the reader does not have
            file.write_text(json.dumps(part, indent=2) + "\n")
        if attached:
            save_file({name: t.contiguous() for name, t in attached.items()}, made / ATTACHED)
        (made / NOTE).write_text(json.dumps(digest.plain({**about, "safety_checker": CHECKER}), indent=2) + "\n")


@contextmanager
def _as_os_error() -> Iterator[None]:
    """Raise OSError if the block raises the error of safetensors, which tells of a full disk in a text."""
    try:
        yield
    except SafetensorError as error:
        raise OSError(str(error)) from error
