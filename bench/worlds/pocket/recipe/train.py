"""Train the pocket world's models from scratch: images, autoencoder, text encoder and U-Net, judges.

    python -m bench.worlds.pocket.recipe.train --stage all --out build/pocket           # about two hours on two cores
    torchrun --nproc-per-node 2 -m bench.worlds.pocket.recipe.train --stage unet --out build/pocket
    python -m bench.worlds.pocket.recipe.train --stage all --out build/no-husky --without "siberian husky"
    python -m bench.worlds.pocket.recipe.train --stage all --out /tmp/try --quick       # the whole path in two minutes

You can stop the command at any time. The same command resumes from the last checkpoint (one per minute). The files of
DIR/weights belong in bench/worlds/pocket/weights. DIR/cache and DIR/checkpoints may be deleted.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import timm
import torch
import torch.distributed as dist
import transformers
from diffusers import AutoencoderKL, StableDiffusionPipeline

from bench.worlds.pocket.distances import attribute_distances, text_cosines
from bench.worlds.pocket.drawing import dataset
from bench.worlds.pocket.drawing.species import find
from bench.worlds.pocket.judges import JUDGES, load_judge
from bench.worlds.pocket.recipe import diffusion, export, judge_training, text, vae
from bench.worlds.pocket.recipe.fit import rank_and_world
from bench.worlds.pocket.recipe.settings import FULL, QUICK, Recipe
from bench.worlds.pocket.weights import MANIFEST, digests, save_half, sha256

log = logging.getLogger("pocket")


@dataclasses.dataclass(frozen=True)
class Job:
    """One run of the command: the recipe, the species that the model never sees (`without`), and the output folder."""

    recipe: Recipe
    without: tuple[str, ...]
    out: Path

    @property
    def weights(self) -> Path:
        return self.out / "weights"

    def checkpoint(self, stage: str) -> Path:
        return self.out / "checkpoints" / f"{stage}.pt"

    @property
    def model_file(self) -> Path:
        """The file with the training images of the model."""
        return dataset.place(
            self.out / "cache", "model", self.recipe.per_species, self.recipe.photo_share, self.without
        )

    def model_pictures(self) -> tuple[np.ndarray, np.ndarray]:
        return dataset.pictures(
            self.out / "cache", "model", self.recipe.per_species, self.recipe.photo_share, self.without
        )

    def judge_pictures(self) -> tuple[np.ndarray, np.ndarray]:
        # judges learn all species, including the species that a model never sees
        return dataset.pictures(self.out / "cache", "judge", self.recipe.judge_per_species, 0.25)

    def held_out_pictures(self) -> tuple[np.ndarray, np.ndarray]:
        return dataset.pictures(self.out / "cache", "held_out", 6 * self.recipe.held_out_per_species, 1 / 6)


def stage_vae(job: Job) -> dict[str, Any]:
    """Train the autoencoder, and measure the PSNR (dB) of its reconstructions of held-out images."""
    model, record = vae.train(job.recipe, job.model_pictures()[0], job.checkpoint("vae"))
    if rank_and_world()[0] == 0:
        model.save_pretrained(job.out / "vae")
    held_out = np.array(job.held_out_pictures()[0][:1440])
    return {"vae": {**record, "psnr_db": round(vae.psnr(model, held_out), 2), "psnr_pictures": len(held_out)}}


def stage_unet(job: Job) -> dict[str, Any]:
    """Train the text encoder and the U-Net on the autoencoder's latents, and write the pipeline folder.

    Raises SystemExit if the autoencoder is missing.
    """
    if dist.is_initialized():
        dist.barrier()  # the first process may still be writing the autoencoder
    folder = job.out / "vae"
    if not folder.is_dir():
        raise SystemExit(f"{folder} is missing: run --stage vae (or all) first")
    autoencoder = AutoencoderKL.from_pretrained(folder).to(diffusion.device())
    images, labels = job.model_pictures()
    known = (
        job.out / "cache" / f"latents-{sha256(folder / 'diffusion_pytorch_model.safetensors')[:12]}-{len(images)}.npy"
    )
    if not known.exists():
        log.info("encoding %d pictures", len(images))
        latents = vae.encode_shared(autoencoder, images)
        if rank_and_world()[0] == 0:
            np.save(known, latents.numpy())
    else:
        latents = torch.from_numpy(np.load(known))
    model, tokenizer, record = diffusion.train(job.recipe, autoencoder, latents, labels, job.checkpoint("unet"))
    if rank_and_world()[0] == 0:
        export.save_pipeline(diffusion.pipeline(model, tokenizer, autoencoder), job.weights / "pipeline")
    return {"unet": {**record, "pictures_seen": record["steps"] * job.recipe.unet.batch}}


def stage_judges(job: Job) -> dict[str, Any]:
    """Train the classifiers, the feature network and CLIP, and test the classifiers on held-out images."""
    images, labels = job.judge_pictures()
    held_out = job.held_out_pictures()
    records: dict[str, Any] = {}
    for name in JUDGES:
        model, record = judge_training.train_judge(name, job.recipe, images, labels, job.checkpoint(name))
        save_half(model, job.weights / "judges" / f"{name}.safetensors")
        records[name] = {**record, "accuracy": judge_training.accuracy_by_style(model, *held_out)}
        log.info("%s: held-out accuracy by style %s", name, records[name]["accuracy"])
    features, records["features"] = judge_training.train_features(
        job.recipe, images, labels, job.checkpoint("features")
    )
    save_half(features, job.weights / "judges" / "features.safetensors")
    clip_model, tokenizer, records["clip"] = judge_training.train_clip(
        job.recipe, images, labels, job.checkpoint("clip")
    )
    export.save_clip(clip_model, tokenizer, job.weights / "clip")
    return records


def stage_text(job: Job) -> dict[str, Any]:
    """Build the vocabulary. Stage `unet` trains the text encoder."""
    tokenizer = text.build_tokenizer(job.recipe.text_length)
    export.save_tokenizer(tokenizer, job.weights / "pipeline" / "tokenizer")
    return {"text": {"vocabulary": len(tokenizer)}}


STAGES: dict[str, Callable[[Job], dict[str, Any]]] = {
    "vae": stage_vae,
    "text": stage_text,
    "unet": stage_unet,
    "judges": stage_judges,
}


def machine() -> dict[str, Any]:
    """The machine and the library versions of this run, for the manifest."""
    return {
        "processor": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "processes": rank_and_world()[1],
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
        "timm": timm.__version__,
    }


def update_manifest(job: Job, stages: dict[str, Any]) -> None:
    """Add the records of stages to the manifest, and update the digests and the distances in it."""
    file = job.weights / MANIFEST
    old = json.loads(file.read_text()) if file.exists() else {}
    new = {
        **old,
        "recipe": dataclasses.asdict(job.recipe),
        "without": list(job.without),
        "drawing": dataset.drawing_digest(),
        "seeds": dict(dataset.FIRST_SEED),
        "stages": {**old.get("stages", {}), **{k: {**v, "machine": machine()} for k, v in stages.items()}},
        "attribute_distance": attribute_distances(),
        "files": digests(job.weights),
    }
    if (job.weights / "pipeline" / "model_index.json").exists():
        pipeline = StableDiffusionPipeline.from_pretrained(job.weights / "pipeline", dtype=torch.float32)
        new["text_cosine"] = text_cosines(pipeline)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(new, indent=1) + "\n")


def main(argv: list[str] | None = None) -> None:
    """Command line of `python -m bench.worlds.pocket.recipe.train`."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.worlds.pocket.recipe.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--stage", choices=(*STAGES, "all"), default="all", help="what to train (default: all, in order)"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="where everything goes; resumes what it finds"
    )
    parser.add_argument(
        "--without", nargs="+", default=(), metavar="SPECIES", help="species the model never sees (oracles)"
    )
    parser.add_argument("--quick", action="store_true", help="a few steps of each stage, to test the path")
    parser.add_argument("--unet-steps", type=int, metavar="N", help="length of U-Net training (default: the recipe's)")
    parser.add_argument("--unet-channels", type=int, nargs=3, metavar="C", help="U-Net width at 16, 8 and 4 pixels")
    parser.add_argument(
        "--threads", type=int, metavar="N", help="torch threads a process (default: torch's own choice)"
    )
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        without = tuple(find(name).name for name in args.without)
    except ValueError as error:
        parser.error(str(error))
    if args.threads:
        torch.set_num_threads(args.threads)
    recipe = QUICK if args.quick else FULL
    if args.unet_steps:
        recipe = dataclasses.replace(recipe, unet=dataclasses.replace(recipe.unet, steps=args.unet_steps))
    if args.unet_channels:
        recipe = dataclasses.replace(recipe, unet_channels=tuple(args.unet_channels))
    job = Job(recipe, without, args.out)
    rank, world = rank_and_world()
    if world > 1:  # one process renders the images, and the other processes wait and then read the cache
        if rank == 0:
            job.model_pictures(), job.judge_pictures(), job.held_out_pictures()
        dist.barrier()
    for name in STAGES if args.stage == "all" else (args.stage,):
        started = time.monotonic()
        report = STAGES[name](job)
        if rank == 0:
            update_manifest(job, report)
            log.info("stage %s done in %.0f s", name, time.monotonic() - started)
    if rank == 0:
        size = sum(f.stat().st_size for f in job.weights.rglob("*") if f.is_file())
        log.info("weights: %s (%.1f MB)", job.weights, size / 1e6)
        if (job.weights / "judges").is_dir() and (job.weights / "pipeline" / "model_index.json").exists():
            load_judge("species", folder=job.weights)
            log.info("next: python -m bench.worlds.pocket.recipe.check --weights %s", job.weights)


if __name__ == "__main__":
    main()
