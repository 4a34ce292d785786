"""Pretrained networks by name: timm's networks from the hub or a file, and EfficientNet-Lite0 from a Python package."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.backbones.checks import tensor_check
from bench.worlds.base import WorldUnavailable
from bench.worlds.judging import lite0

ELSEWHERE = ("hf-hub:", "hf_hub:", "local-dir:")  # timm's prefixes for a hub repository and for a folder


@dataclass(frozen=True)
class Backbone:
    """A pretrained network of timm.

    Args:
        name: the name that the caller passed to `load`.
        architecture: timm's name without the tag of the weights. timm builds the network from this name.
        net: normalised images (B, 3, h, w) -> logits of its pretraining classes, or features (B, D) if it was loaded
            without its classifier. The network is in eval mode.
        config: timm's data config, see `preprocessing.KEYS`.
    """

    name: str
    architecture: str
    net: Any  # an nn.Module; Any, because the type nn.Module lacks timm's methods
    config: dict[str, Any]


def load(name: str, weights: Path | None = None, classifier: bool = True) -> Backbone:
    """Load the network `name` on the CPU, in fp32 and eval mode.

    Args:
        name: `efficientnet_lite0`, a timm name such as `resnet50.a1_in1k`, or `local-dir:FOLDER` for a folder that timm
            saved.
        weights: a file with the network's weights in the format of timm or of their authors. The file replaces the
            weights from the hub.
        classifier: False removes the last layer, so that the network returns pooled features (B, D).

    Raises WorldUnavailable for an unknown name, and for weights that can't be loaded or do not fit the network.
    """
    import timm
    from timm.data import resolve_model_data_config

    net: Any
    if name == lite0.NAME and weights is None:
        net = lite0.network()
    else:
        _check(name, weights)
        overlay = {"file": str(weights)} if weights else None
        try:
            net = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
        except Exception as error:  # timm, the hub's client, its transport and torch raise many types
            raise WorldUnavailable(_missing(name, weights, error)) from error
    if bad := [n for n, tensor in net.state_dict().items() if not tensor_check.is_finite(tensor)]:
        raise WorldUnavailable(f"{weights or name}: the weights contain NaN or infinite values, e.g. in {bad[0]}")
    if not classifier:
        net.reset_classifier(0)  # with num_classes=0 above, timm would accept a file that does not fit
    config = resolve_model_data_config(net)
    architecture = net.pretrained_cfg["architecture"]
    return Backbone(name, architecture, net.float().eval(), config)


def _check(name: str, weights: Path | None) -> None:
    """Raise WorldUnavailable for a name that timm does not know or a missing file, before timm uses the network."""
    import timm

    if name.startswith(ELSEWHERE):
        return
    if weights and not weights.is_file():
        raise WorldUnavailable(f"there is no file {weights} of weights for {name!r}")
    architecture, _, tag = name.partition(".")
    if not ((weights and timm.is_model(architecture) and not tag) or timm.models.is_model_pretrained(name)):
        known = timm.list_models(pretrained=True)
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        raise WorldUnavailable(
            f"timm knows no pretrained network {name!r}"
            + (f"; near: {', '.join(near)}" if near else "")
            + f"; `timm.list_models('*{architecture[:6]}*', pretrained=True)` lists more of its {len(known)}"
        )


def _missing(name: str, weights: Path | None, error: Exception) -> str:
    first = str(error).strip().split("\n", 1)[0]
    if weights or name.startswith("local-dir:"):
        return f"{weights or name} can't be loaded as the weights of {name!r}: {type(error).__name__}: {first}"
    return (
        f"the weights of {name!r} can't be had ({type(error).__name__}: {first}). With a network, timm downloads them "
        "once; without one, copy its cache there (HF_HOME), or name a folder that timm saved: local-dir:FOLDER"
    )
