"""Optional parts of the evidence: images for head nouns, and the model's noise predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch


@dataclass(frozen=True)
class HeadNouns:
    """M images whose prompts hold only the head noun of a forgotten concept ("a photo of a retriever").

    Args:
        requested: for each image, the forgotten concept whose head noun is in the prompt, (M,).
        predicted: for each image, the concept that the world's classifier predicts, (M,).
        named: forgotten concept -> every concept that its head noun names, the forgotten concept included.

    Example:
        >>> names = ("golden retriever", "labrador retriever")
        >>> nouns = HeadNouns(("golden retriever",), ("labrador retriever",), {"golden retriever": names})
        >>> nouns.predicted[0] in nouns.named[nouns.requested[0]]
        True
    """

    requested: tuple[str, ...] = ()
    predicted: tuple[str, ...] = ()
    named: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class CaptionImages:
    """M images for captions of any scenes, one for each caption.

    Args:
        features: features of each image, float (M, D).
        reference: features of reference images, float (R, D).
        alignment: the cosine of each image and its caption, float (M,), -1 to 1; None without a CLIP model.

    Example:
        >>> images = CaptionImages(torch.zeros(2, 8), torch.zeros(3, 8), torch.tensor([0.25, 0.5]))
        >>> len(images.features)
        2
    """

    features: torch.Tensor
    reference: torch.Tensor
    alignment: torch.Tensor | None = None


@dataclass(frozen=True)
class Probe:
    """The model's noise predictions for M images of forgotten concepts, with their prompt and with the null prompt.

    Args:
        requested: for each image, the concept that its prompt names, (M,).
        gaps: ||eps(x_l, c) - eps(x_l, null)||^2 of each image at each of T noise levels, float (M, T), at least 0.
        logsnr: log-SNR l of each noise level, float (T,), in nats.

    Example:
        >>> probe = Probe(requested=("tulip", "tulip"), gaps=torch.ones(2, 3), logsnr=torch.tensor([-2.0, 0.0, 2.0]))
        >>> torch.trapezoid(probe.gaps, probe.logsnr) / 2  # nats, one value per image
        tensor([2., 2.])
    """

    requested: tuple[str, ...]
    gaps: torch.Tensor
    logsnr: torch.Tensor


@dataclass(frozen=True)
class PromptProbes:
    """The model's noise predictions for M images of forgotten concepts, with their prompt and with other prompts.

    The other prompts are called "word" (the concept's name alone), "rest" (the image's prompt with a broader word in
    place of the name) and "near" (the image's prompt with the name of the nearest neighbour).

    Args:
        requested: for each image, the concept that its prompt names, (M,).
        null: ||eps(x_l, c) - eps(x_l, null)||^2 of each image at each of T noise levels, float (M, T), as in Probe.
        looked: whether an image was probed with the other prompts at a noise level, bool (M, T). Each image is probed
            at some of the levels.
        logsnr: log-SNR l of each noise level, float (T,), in nats.
        others: name of another prompt y -> ||eps(x_l, c) - eps(x_l, y)||^2, float (M, T). A value is meaningless
            where `looked` is False.
        has: "rest" or "near" -> the forgotten concepts that have such a prompt.

    Example:
        >>> probes = PromptProbes(
        ...     requested=("tulip",),
        ...     null=torch.ones(1, 3),
        ...     looked=torch.tensor([[True, False, True]]),
        ...     logsnr=torch.tensor([-2.0, 0.0, 2.0]),
        ...     others={"word": torch.zeros(1, 3), "rest": torch.ones(1, 3)},
        ...     has={"rest": ("tulip",)},
        ... )
        >>> probes.others["rest"][probes.looked].mean()
        tensor(1.)
    """

    requested: tuple[str, ...]
    null: torch.Tensor
    looked: torch.Tensor
    logsnr: torch.Tensor
    others: Mapping[str, torch.Tensor]
    has: Mapping[str, tuple[str, ...]]
