"""ImageNet classifiers as judges of dogs. The 120 breeds of Stanford Dogs are ImageNet classes.

A judge keeps only the rows of these classes in the classifier's last layer. Stanford Dogs consists of ImageNet images,
so an ImageNet classifier was trained on most of them. Its accuracy on these photographs is therefore higher than on
generated images, and does not estimate its accuracy on new images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from bench.worlds.base import Judge, WorldUnavailable
from bench.worlds.judging import networks
from bench.worlds.preprocessing import Preprocessed


def load(name: str, synsets: Mapping[str, str], device: torch.device) -> Judge:
    """Load the classifier `name` (see `networks.load`), restricted to the classes `synsets`, on `device`.

    Args:
        synsets: WordNet synset, e.g. "n02085620" -> label. The judge's logits have this order.

    Raises WorldUnavailable for a network that can't be loaded, for a network without these ImageNet classes, and for a
    network whose last layer can't be restricted.
    """
    backbone = networks.load(name)
    rows = indices(backbone.net.pretrained_cfg, list(synsets), name)
    head = restrict(backbone.net, rows, backbone.config["input_size"], name)
    module = Preprocessed(backbone.config, backbone.net).eval().requires_grad_(False).to(device)
    return Judge(tuple(synsets.values()), module, head)


def indices(config: Mapping[str, Any], synsets: Sequence[str], name: str = "") -> list[int]:
    """The index of each synset's logit in a network with timm's `pretrained_cfg` `config`.

    If the config names the classes, these names are used. Otherwise timm infers the classes from their number (1000,
    11821, 21841, ...). Raises WorldUnavailable if timm does not know a set of classes with this number, or if a synset
    is missing from the classes.
    """
    from timm.data import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset(dict(config))
    named = config.get("label_names")
    if not (named or subset):
        raise WorldUnavailable(
            f"{name!r} has {config.get('num_classes')} classes, which is no set of ImageNet classes that timm knows: "
            "take a classifier of ImageNet-1k, -21k or -22k"
        )
    known = {synset: i for i, synset in enumerate(named or ImageNetInfo(subset).label_names())}
    lacking = [synset for synset in synsets if synset not in known]
    if lacking:
        raise WorldUnavailable(
            f"{name!r} ({'its own labels' if named else subset}) lacks {len(lacking)} of {len(synsets)} classes, "
            f"{', '.join(lacking[:5])} among them: take a classifier of ImageNet-1k"
        )
    return [known[synset] for synset in synsets]


@torch.no_grad()
def restrict(net: Any, rows: Sequence[int], input_size: Sequence[int], name: str = "") -> nn.Linear:
    """Replace the last layer of `net`, in place, by a linear layer with only the rows `rows`. Returns the new layer.

    The input of the new layer is features (B, D). The function runs the network on two noise images before and after
    the change. Raises WorldUnavailable if the last layer is not linear, if the new logits differ from the rows `rows`
    of the old logits, or if the input of the last layer has another shape.
    """
    last = net.get_classifier()
    at = next((path for path, module in net.named_modules() if module is last), None)
    if at is None or not isinstance(last, (nn.Linear, nn.Conv2d)):
        raise WorldUnavailable(
            f"the last layer of {name!r} is no linear one ({type(last).__name__}): take a classifier with a plain head"
        )
    picture = torch.randn(2, *input_size, generator=torch.Generator().manual_seed(0))
    before = net.eval()(picture)

    head = nn.Linear(last.weight.shape[1], len(rows), bias=last.bias is not None)
    head.weight.copy_(last.weight[rows].flatten(1))  # a 1x1 convolution is also linear
    if last.bias is not None:
        head.bias.copy_(last.bias[rows])
    new = head if isinstance(last, nn.Linear) else nn.Sequential(nn.Flatten(1), head)
    above, _, attribute = at.rpartition(".")
    setattr(net.get_submodule(above), attribute, new)

    shapes: list[torch.Size] = []
    handle = head.register_forward_pre_hook(lambda module, given: shapes.append(given[0].shape))
    try:
        after = net(picture)
        exact = after.shape == (2, len(rows)) and torch.allclose(after, before[:, rows], rtol=1e-4, atol=1e-4)
    except RuntimeError:  # the shapes do not fit
        exact = False
    finally:
        handle.remove()
    if not exact or [len(shape) for shape in shapes] != [2]:
        raise WorldUnavailable(
            f"{name!r} does more after its last layer, or runs it otherwise, than can be restricted to "
            f"{len(rows)} classes: take a classifier with a plain head"
        )
    return head
