"""Fine-tuning of the whole network. It starts from a fitted head, because a random head would distort the features.

Kumar et al. (ICLR 2022, LP-FT) introduced this order. The seed, the epoch and the image determine all random numbers.
So an interrupted run resumes after its last complete epoch and reaches the same result, up to rounding on a GPU.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bench.core import device, digest
from bench.core.checkpoint import Checkpoint
from bench.core.device import multiplies_bf16
from bench.worlds.natural.judges import features
from bench.worlds.natural.judges.judge_file import Trained
from bench.worlds.natural.photographs.reader import Photographs
from bench.worlds.pictures import upright

SMOOTHING = 0.1  # label smoothing
WARM_UP = 0.05  # share of the steps with a rising learning rate; a cosine decay follows
CLIP = 1.0  # maximum norm of the gradient


@dataclass(frozen=True)
class Tuning:
    """Settings of fine-tuning.

    Args:
        epochs: number of passes over the training images.
        lr: AdamW's maximum learning rate.
        weight_decay: AdamW's weight decay for matrices and filters. Vectors (biases, norms) have a decay of 0.
        batch_size: images per step.
        seed: seed of the order of images, the augmentation and dropout.
    """

    epochs: int = 30
    lr: float = 3e-5
    weight_decay: float = 0.05
    batch_size: int = 64
    seed: int = 0


class Varied(Dataset):
    """A dataset of (augmented photograph, label). The augmentation is timm's transform for training.

    The seed, the epoch and the index determine the augmentation of an image. Images are normalised, (3, h, w).
    """

    def __init__(self, photos: Sequence[features.Photo], config: dict[str, Any], seed: int, epoch: int) -> None:
        from timm.data import create_transform

        self.photos, self.key = photos, (seed, epoch)
        self.transform = create_transform(
            tuple(config["input_size"]), is_training=True, scale=(0.3, 1.0), color_jitter=0.3, re_prob=0.25,
            interpolation="bicubic", mean=tuple(config["mean"]), std=tuple(config["std"]),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.photos[index]
        image = upright(path)
        before = random.getstate(), np.random.get_state()
        with torch.random.fork_rng(devices=[]):
            seed = seed_of(*self.key, index)
            random.seed(seed)
            np.random.seed(seed % 2**32)
            torch.default_generator.manual_seed(seed)  # the CPU's generator only; a GPU's dropout must not change
            picture = self.transform(image)
        random.setstate(before[0])
        np.random.set_state(before[1])
        return picture, label


def seed_of(*parts: int) -> int:
    """A seed in [0, 2^60) that integers determine."""
    return int(digest.of_json(parts)[:15], 16)


def fine_tune(
    module: Trained,
    photos: Photographs,
    tuning: Tuning,
    checkpoint: Checkpoint,
    side: int,
    workers: int = 0,
    report: Callable[[str], None] = print,
) -> int:
    """Train all weights of `module`, in place, on its device. Returns the number of correct test images.

    The result has the weights of the last epoch and not those of the best epoch, so that test images choose nothing.
    Training resumes from `checkpoint`, and writes it after each epoch. The caller must name the checkpoint by a digest
    of everything that determines the run. Batch norms keep their statistics. Training uses bf16 autocast on GPUs that
    multiply bfloat16 natively, and fp32 elsewhere.

    Args:
        side: pixels of the square test images.
        workers: processes that read images.
        report: is called with a message when training resumes, and after each epoch.
    """
    from tqdm import tqdm

    device = module.head.weight.device
    bf16 = device.type == "cuda" and multiplies_bf16(device)
    module.requires_grad_(True)
    named = dict(module.named_parameters())
    groups = [
        {"params": [p for p in named.values() if p.ndim > 1], "weight_decay": tuning.weight_decay},
        {"params": [p for p in named.values() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=tuning.lr)
    per_epoch = math.ceil(len(photos.train) / tuning.batch_size)
    begun, right = _resume(module, optimiser, checkpoint)
    if begun:
        report(f"goes on after epoch {begun} of {tuning.epochs}")

    for epoch in range(begun, tuning.epochs):
        torch.manual_seed(seed_of(tuning.seed, epoch))  # dropout and stochastic depth
        order = torch.randperm(len(photos.train), generator=torch.Generator().manual_seed(seed_of(tuning.seed, epoch)))
        varied = Varied(photos.train, module.body.preprocessing.config, tuning.seed, epoch)
        loader = DataLoader(varied, tuning.batch_size, sampler=order.tolist(), num_workers=workers)
        batches = tqdm(features.loaded(loader), f"epoch {epoch + 1}/{tuning.epochs}", len(loader), unit="batch")
        module.train()
        for layer in module.modules():
            if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
                layer.eval()  # keep the pretrained statistics; the head was fitted and is tested with them
        total = 0.0
        for step, (pictures, labels) in enumerate(batches):
            for group in optimiser.param_groups:
                group["lr"] = tuning.lr * height((epoch * per_epoch + step) / (tuning.epochs * per_epoch))
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                logits = module.head(module.body.net(pictures.to(device)))
            loss = F.cross_entropy(logits.float(), labels.to(device), label_smoothing=SMOOTHING)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(named.values(), CLIP)
            optimiser.step()
            total += float(loss.detach()) * len(labels)
        right = count_right(module.eval(), photos.test, side, tuning.batch_size, workers)
        report(
            f"epoch {epoch + 1}/{tuning.epochs}: loss {total / len(photos.train):.3f}, "
            f"test accuracy {100 * right / len(photos.test):.2f} % (n = {len(photos.test)})"
        )
        _keep(module, optimiser, checkpoint, epoch + 1, right)
    module.eval().requires_grad_(False)
    return right


def height(done: float) -> float:
    """The learning rate divided by its maximum. `done` is the share of the steps that are done, in [0, 1]."""
    if done < WARM_UP:
        return (done + 1e-3) / (WARM_UP + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP)))


@torch.inference_mode()
@device.exact()
def count_right(module: Trained, photos: Sequence[features.Photo], side: int, size: int, workers: int) -> int:
    """The number of photographs that the judge classifies correctly, in fp32 as in the benchmark.

    Args:
        side: pixels of the square images.
        size: images per batch.
        workers: processes that read images.
    """
    device = module.head.weight.device
    return sum(
        int((module(pictures.to(device)).argmax(1).cpu() == labels).sum())
        for pictures, labels in features.batches(photos, side, size, workers)
    )


def _keep(module: Trained, optimiser: torch.optim.Optimizer, checkpoint: Checkpoint, epoch: int, right: int) -> None:
    tensors = {f"module.{name}": tensor for name, tensor in module.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": tensor for name, tensor in state.items()}
    checkpoint.save(tensors, {"epoch": epoch, "right": right})


def _resume(module: Trained, optimiser: torch.optim.Optimizer, checkpoint: Checkpoint) -> tuple[int, int]:
    """Load the checkpoint into `module` and `optimiser`, in place.

    Returns the number of complete epochs and the number of test images that were correct after them. Without a
    checkpoint both are 0.
    """
    saved = checkpoint.load()
    if saved is None:
        return 0, 0
    tensors, record = saved
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimiser."):
            _, index, key = name.split(".")
            state.setdefault(int(index), {})[key] = tensor
    module.load_state_dict({k.removeprefix("module."): v for k, v in tensors.items() if k.startswith("module.")})
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
    return record["epoch"], record["right"]
