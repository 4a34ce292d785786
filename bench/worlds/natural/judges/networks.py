"""Pretrained networks by name: timm's, from the hub or a file, and EfficientNet-Lite0 from its package."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.worlds.base import WorldUnavailable
from bench.worlds.natural.judges import lite0

ELSEWHERE = ("hf-hub:", "hf_hub:", "local-dir:")  # timm's own prefixes: of a hub repository, of a folder


@dataclass(frozen=True)
class Backbone:
    """A pretrained network of timm.

    Args:
        name: as it was asked for.
        architecture: timm's name without the tag of its weights; what builds the network anew.
        net: normalised pictures -> logits of the classes it was trained on, or features if built so; eval mode.
        config: timm's data config: see `preprocessing.KEYS`.
    """

    name: str
    architecture: str
    net: Any  # a Module whose type would hide timm's own methods
    config: dict[str, Any]


def load(name: str, weights: Path | None = None, classifier: bool = True) -> Backbone:
    """The network called `name`, on the CPU, in fp32.

    Args:
        name: `efficientnet_lite0`, a timm name such as `resnet50.a1_in1k`, or `local-dir:FOLDER` as timm saves them.
        weights: a file of the network's weights as timm or their authors publish them, in place of the hub.
        classifier: False leaves its last layer out: the network then gives pooled features (B, D).

    Raises WorldUnavailable for an unknown name and for weights that can't be had or don't fit.
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
        except Exception as error:  # of timm, the hub's client, its transport or torch: all mean that it can't be had
            raise WorldUnavailable(_missing(name, weights, error)) from error
    if not classifier:
        net.reset_classifier(0)  # not as num_classes=0 above: timm would then let a file pass that doesn't fit
    config = resolve_model_data_config(net)
    architecture = net.pretrained_cfg["architecture"]
    return Backbone(name, architecture, net.float().eval(), config)


def _check(name: str, weights: Path | None) -> None:
    """Raise WorldUnavailable for what timm doesn't know, before it looks anywhere else."""
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
