"""What suits a backbone: the protocol, the settings of methods, the models of judges and features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.core.config import Protocol
from bench.worlds import contrastive, inception
from bench.worlds.base import WorldUnavailable

POCKET = "pocket"  # the name of the pocket world's model as a backbone
JUDGE = "ViT-L-14/datacomp_xl_s13b_b90k"


@dataclass(frozen=True)
class Defaults:
    """Defaults for the concepts of a file on one backbone.

    Args:
        source: the backbone, as `--backbone` names it or as a folder.
        protocol: how images are sampled, and how many.
        presets: method -> settings that suit the backbone.
        verified: whether the files of the backbone are compared with known digests.
        judge: open_clip's name of the model that judges.
        clip: open_clip's name of the model for CLIP score.
        extractor: torch-fidelity's name of the feature extractor.
        called: what reports call the models `judge` and `clip`; "" for their own names.
    """

    source: str
    protocol: Protocol
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    verified: bool = False
    judge: str = JUDGE
    clip: str = contrastive.USUAL
    extractor: str = inception.NAME
    called: str = ""


USUAL = Protocol(
    images_per_concept=12,  # three for each of the usual evaluation prompts
    forget_images=100,
    retain_images=4,
    num_inference_steps=25,
    guidance_scale=7.5,
    reference_per_concept=12,
)


def of_backbone(backbone: str) -> Defaults:
    """The defaults for a backbone. Raises WorldUnavailable if the weights of the pocket model are damaged."""
    if backbone != POCKET:
        return Defaults(backbone, USUAL)
    from bench.worlds.pocket import weights
    from bench.worlds.pocket.world import POCKET as WORLD

    try:
        weights.verify(weights.WEIGHTS, "clip")
    except weights.WeightsError as error:
        raise WorldUnavailable(str(error)) from error
    clip = f"local-dir:{weights.WEIGHTS / 'clip'}"
    return Defaults(
        source=WORLD.backbone(),
        protocol=WORLD.protocol,
        presets=WORLD.presets,
        verified=WORLD.verifies_backbone,
        judge=clip,
        clip=clip,
        extractor=WORLD.feature_extractor(),
        called="the pocket model's own CLIP",
    )
