"""Build the pocket world's oracles. An oracle is its model, retrained from scratch without one species."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from filelock import FileLock, Timeout

from bench.backbones import pipeline
from bench.core import digest
from bench.worlds.base import WorldUnavailable
from bench.worlds.pocket import weights
from bench.worlds.pocket.drawing import dataset
from bench.worlds.pocket.recipe import oracle_file, train
from bench.worlds.pocket.recipe.settings import FULL, QUICK, Recipe, shrink
from bench.worlds.pocket.recipe.train import Job

log = logging.getLogger("pocket")

# The U-Net has the widths of the committed U-Net, so that even the tensors of a quick oracle fit into the pipeline.
SMALL = dataclasses.replace(
    QUICK,
    per_species=2,
    unet_channels=FULL.unet_channels,
    unet=dataclasses.replace(shrink(FULL.unet, 3), batch=8),
)

EPILOG = f"""
An oracle has seen pictures and captions of all species but one. Its text encoder and U-Net are trained as the committed
ones were, from the same random weights, on the committed autoencoder's latents. What it draws when it is asked for that
species is what a model draws that never knew it: what unlearning could at best attain.

It costs about two hours a species on a core, and 0.6 GB beside the results while it lasts. Kill it whenever
you like: the same command goes on from the last checkpoint, a minute old at most. What is there already is left alone.

Boards look in the folder that {oracle_file.VARIABLE} names, then among the committed ones; nowhere where it says
"{oracle_file.NONE}".

examples:
  all three, one after the other:
    {oracle_file.COMMAND}
  side by side on a machine of several cores, each command in its own terminal:
    {oracle_file.COMMAND} --species "pembroke corgi" --threads 1
    {oracle_file.COMMAND} --species "tea rose" --threads 1
  where the package can't be written to:
    {oracle_file.COMMAND} --out ~/oracles && export {oracle_file.VARIABLE}=~/oracles
  take up what `train --stage unet --without toucan` did in a folder with the committed autoencoder:
    {oracle_file.COMMAND} --species toucan --work build/no-toucan
  the whole path in seconds; boards refuse the result:
    {oracle_file.COMMAND} --species toucan --quick --out build/try
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the oracles that the command line names.

    Returns the exit code: 0 on success, 1 after an error with a message, 130 after an interrupt.
    """
    grammar = parser()
    args = grammar.parse_args(arguments)
    if args.work and len(args.species) > 1:
        grammar.error("--work is one species' folder: name that with --species")
    kept = [folder.resolve() for folder in (oracle_file.folder(), oracle_file.COMMITTED)]
    if args.quick and (args.out is None or args.out.resolve() in kept):
        grammar.error("--quick trains next to nothing: name a folder for it with --out, away from what boards use")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if args.threads:
        torch.set_num_threads(args.threads)
    out, recipe = args.out or oracle_file.folder(), SMALL if args.quick else FULL
    try:
        require_writable(out)
        for i, species in enumerate(args.species, start=1):
            log.info("oracle %d of %d: all species but %s", i, len(args.species), species)
            build(species, recipe, args.work or out / "work" / oracle_file.slug(species), out)
    except (OSError, ValueError, weights.WeightsError, WorldUnavailable) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nbroken off; the same command goes on from here", file=sys.stderr)
        return 130
    if args.quick:
        log.info("made with --quick: boards refuse it")
    elif out.resolve() not in kept:
        log.info("for boards to find it: export %s=%s", oracle_file.VARIABLE, shlex.quote(str(out.resolve())))
    return 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog=oracle_file.COMMAND,
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "--species", nargs="+", choices=oracle_file.SPECIES, default=oracle_file.SPECIES, metavar="NAME",
        help=f"what to leave out, an oracle each (default: {', '.join(oracle_file.SPECIES)})",
    )  # fmt: skip
    made.add_argument("--out", type=Path, metavar="DIR", help="where results go (default: where boards look)")
    made.add_argument(
        "--work", type=Path, metavar="DIR",
        help="pictures, latents and checkpoints of one species, to be deleted afterwards (default: OUT/work/NAME)",
    )  # fmt: skip
    made.add_argument("--quick", action="store_true", help="a few steps on a few pictures, to test the path")
    made.add_argument("--threads", type=int, metavar="N", help="torch threads (default: torch's own choice)")
    return made


def build(species: str, recipe: Recipe, work: Path, out: Path) -> Path:
    """Train the oracle of `species` in the folder `work`, and write its file into `out`. Returns the path of the file.

    The function skips the parts that are done already.

    Raises ValueError if the drawing or the recipe of this checkout differs from those of the committed weights, or if
    `work` holds another training or is in use. Raises WeightsError if the committed weights are missing or damaged.
    """
    file, facts = oracle_file.place(species, out), oracle_file.facts(species, recipe)
    if recipe == FULL:
        if wrong := oracle_file.unlike(facts, oracle_file.wanted(species)):
            raise ValueError(f"what is built here would not belong to the committed weights: {wrong}")
        if oracle_file.beside(file).exists():
            try:
                oracle_file.require(file, species)
            except WorldUnavailable as error:
                log.info("%s", error)
            else:
                log.info("%s is there already", file)
                return file
    base = pipeline.read(weights.pipeline_folder())
    job = Job(recipe, (species,), work)
    work.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(work / ".lock", timeout=0):
            require_own(job)
            if not finished(job):
                put_autoencoder(base.vae, work / "vae")
                train.update_manifest(job, train.stage_unet(job))
            made = pipeline.read(job.weights / "pipeline")
    except Timeout as error:
        raise ValueError(f"{work} is being worked in by another process") from error
    if not same(made.vae, base.vae) or made.tokenizer.get_vocab() != base.tokenizer.get_vocab():
        raise ValueError(
            f"{work} holds a model on another autoencoder or tokenizer than the committed one's: delete it"
        )
    tensors = {**made.unet.state_dict()}
    tensors |= {pipeline.TEXT + name: tensor for name, tensor in made.text_encoder.state_dict().items()}
    pipeline.owners(base, tensors)  # raises ValueError if a tensor has another shape
    oracle_file.save(tensors, facts, file)
    log.info("%s (%.1f MB); %s may be deleted", file, file.stat().st_size / 1e6, work)
    return file


def require_writable(out: Path) -> None:
    """Create the folder `out`. Raises ValueError if the process can't write files in it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"can't make the folder {out} ({error}): name another with --out") from error
    if not os.access(out, os.W_OK):
        raise ValueError(f"can't write in {out}: name another folder with --out")


def require_own(job: Job) -> None:
    """Raise ValueError if the job's folder holds the images, the checkpoint or the model of another job."""
    pictures = {*(job.out / "cache").glob("model-*.npy")}
    record = weights.manifest(job.weights) if (job.weights / weights.MANIFEST).exists() else None
    if (
        pictures - {job.model_file}
        or (job.checkpoint("unet").exists() and not (pictures or record))
        or (record and record["without"] != list(job.without))
    ):
        raise ValueError(
            f"{job.out} holds a training on other pictures than all but those of {job.without[0]}: "
            "delete it, or name another folder with --work"
        )


def finished(job: Job) -> bool:
    """Whether the job's folder holds the complete model, trained with the recipe and the drawing of the job.

    Raises WeightsError if a file of the model does not match the manifest.
    """
    if not (job.weights / weights.MANIFEST).exists():
        return False
    record = weights.manifest(job.weights)
    same_recipe = digest.of_json(record["recipe"]) == digest.of_json(dataclasses.asdict(job.recipe))
    if not (same_recipe and record["drawing"] == dataset.drawing_digest() and "unet" in record["stages"]):
        return False
    weights.verify(job.weights, "pipeline")
    return True


def put_autoencoder(vae: AutoencoderKL, folder: Path) -> None:
    """Write `vae` into `folder`.

    Raises ValueError if the folder holds another autoencoder, because its latents would not be comparable.
    """
    if folder.is_dir():
        if not same(AutoencoderKL.from_pretrained(folder), vae):
            raise ValueError(f"{folder} is not the committed autoencoder: delete {folder.parent}")
        return
    draft = folder.with_name("vae.part")
    vae.save_pretrained(draft)
    os.replace(draft, folder)


def same(a: AutoencoderKL, b: AutoencoderKL) -> bool:
    """Whether two autoencoders have the same tensors and the same scaling factor."""
    x, y = a.state_dict(), b.state_dict()
    return (
        a.config.scaling_factor == b.config.scaling_factor
        and x.keys() == y.keys()
        and all(torch.equal(x[name], y[name]) for name in x)
    )


if __name__ == "__main__":
    sys.exit(main())
