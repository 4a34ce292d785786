"""The two released classifiers of UnlearnCanvas. One classifier predicts the style, the other predicts the object.

The code follows `machine_unlearning/evaluation/quantitative/accuracy.py` of github.com/OPTML-Group/UnlearnCanvas at
commit 19ed5e7ff3dd2a5f43abb5a227c544f07c33db26. That script builds timm's `vit_large_patch16_224.augreg_in21k` with a
Linear(1024, 51 or 20) as its head, and reads the weights from the entry "model_state_dict".

The images of that script are JPEG files, which the published sampling code writes at Pillow's default quality 75. The
script applies torchvision's Resize((224, 224)) to the PIL image (bilinear, averaging, without a crop), then ToTensor,
then Normalize([0.5], [0.5]). This module does the same to a tensor, with two differences. It does not compress the
image as JPEG, and it does not round the values to 8 bits after the resize.

The facts about the checkpoints come from that script. The released checkpoints themselves were not available.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bench.backbones.checks import tensor_check
from bench.worlds.base import Judge, WorldUnavailable
from bench.worlds.canvas.classes import OBJECTS, STYLE_LABELS

# Published fingerprints contain this string. It is the digest of the first version of this file's source. Any other
# string means a new version.
VERSION = "73485fa43cac48da1441ff1e21fbadfbc011ed540d69fa00a01f2eefbd4788fa"

Kind = Literal["style", "object"]
KINDS: tuple[Kind, ...] = ("style", "object")
LABELS: dict[str, tuple[str, ...]] = {"style": STYLE_LABELS, "object": OBJECTS}
FILES = {"style": "style50.pth", "object": "style50_cls.pth"}  # as released, in the folder `cls_model`
FOLDERS = ("classifiers", "cls_model")  # subfolders of the data folder, in the order in which they are searched
ARCHITECTURE = "vit_large_patch16_224.augreg_in21k"
WEIGHTS = "model_state_dict"
SIDE = 224
RELEASE = "https://drive.google.com/drive/folders/14iztBXs-GoBFVLePC2_psP00YUMK5-cy"


class Classifier(nn.Module):
    """Network from float images in [0, 1], (B, 3, H, W), to logits (B, labels), with the published preprocessing."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        return self.net(preprocessed(images))


def preprocessed(images: Tensor) -> Tensor:
    """The input of the network, (B, 3, 224, 224) in [-1, 1], from float images in [0, 1], (B, 3, H, W)."""
    small = nn.functional.interpolate(images, (SIDE, SIDE), mode="bilinear", antialias=True)
    return small * 2 - 1


def locate(data: Path, kind: Kind) -> Path:
    """The path of a released classifier in the data folder. Raises WorldUnavailable with the paths that were tried."""
    places = [data / folder / FILES[kind] for folder in FOLDERS]
    for place in places:
        if place.is_file():
            return place
    raise WorldUnavailable(_absent(kind, " nor ".join(map(str, places))))


def load(path: Path, kind: Kind, device: torch.device | str, options: Mapping[str, Any] | None = None) -> Judge:
    """Load a released classifier: fp32, in eval mode, with frozen weights.

    Args:
        path: the released checkpoint file. torch.load reads it with `weights_only`, so that the file can't run code.
        kind: "style" or "object".
        device: the device of the classifier.
        options: arguments of timm.create_model, for a network smaller than the released one. Only tests need them.

    Raises ValueError for an unknown kind, and WorldUnavailable for a file that is missing, unreadable, of another
    architecture or of another number of labels.
    """
    if kind not in LABELS:
        raise ValueError(f"unknown judge {kind!r}; known: {', '.join(LABELS)}")
    import timm  # importing timm takes seconds, and listing the worlds must not wait for it

    with torch.device("meta"):  # the network takes no memory until the tensors of the file replace its own
        net = timm.create_model(ARCHITECTURE, pretrained=False, num_classes=len(LABELS[kind]), **(options or {}))
    weights = _weights(path, kind)
    _check(path, kind, weights, net.state_dict())
    net.load_state_dict(weights, strict=True, assign=True)
    module = Classifier(net.float()).eval().requires_grad_(False).to(device)
    return Judge(LABELS[kind], module, net.head)


def _absent(kind: str, where: str) -> str:
    return (
        f"UnlearnCanvas's classifier of {kind}s is not at {where}: `run_bench.py prepare canvas` fetches {FILES[kind]} "
        f"from the Hugging Face hub. It is also in the folder cls_model of {RELEASE}; put it into "
        f"{' or '.join(FOLDERS)} in the data folder"
    )


def _weights(path: Path, kind: str) -> dict[str, Tensor]:
    """The named tensors in a checkpoint file. Raises WorldUnavailable for a missing or unreadable file."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WorldUnavailable(_absent(kind, str(path))) from None
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        said = f"{path} is cut short, or no checkpoint of tensors and plain values ({reason[0]})"
        raise WorldUnavailable(f"{said}; fetch {FILES[kind]} again from {RELEASE}") from error
    if not isinstance(content, Mapping) or not isinstance(content.get(WEIGHTS), Mapping):
        found = ", ".join(map(str, list(content)[:5])) if isinstance(content, Mapping) else type(content).__name__
        raise WorldUnavailable(f"{path} has no entry {WEIGHTS!r} as the released classifiers have; found: {found}")
    return dict(content[WEIGHTS])


def _check(path: Path, kind: str, weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise WorldUnavailable unless the names and shapes of the tensors are as expected, and their values finite."""
    missing, extra = sorted(set(expected) - set(weights)), sorted(set(weights) - set(expected))
    other = [name for name in expected if name in weights and weights[name].shape != expected[name].shape]
    if not missing and not extra and other and all(name.startswith("head.") for name in other):
        found = len(weights[other[0]])
        hint = next(
            (f"; {found} labels has the judge of {k}s" for k, names in LABELS.items() if len(names) == found), ""
        )
        raise WorldUnavailable(f"{path} tells {found} labels apart, and a judge of {kind}s {len(LABELS[kind])}{hint}")
    try:
        tensor_check.compare(str(path), f"{ARCHITECTURE} of {len(LABELS[kind])} labels", weights, expected)
        tensor_check.require_finite(str(path), weights.items())
    except tensor_check.TensorMismatch as error:
        raise WorldUnavailable(str(error)) from error
