"""Classifiers of other libraries as judges: checkpoints of `transformers` and of timm, with all of their classes.

A class that is no concept keeps its place among the labels. So a picture of something else need not count as a concept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from bench.core.registry import nearest
from bench.core.text.alike import same_letters
from bench.worlds.base import Judge, WorldUnavailable
from bench.worlds.judging import networks
from bench.worlds.preprocessing import Preprocessed, Preprocessing

VERSION = "1"  # cache keys contain it; change it if the outputs of a judge change
RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers -> timm's names
NEAR = 5  # classes that a message names
WHOLE = 384  # side of an image from which ConvNext's processor squashes it and crops nothing


class Checkpoint(nn.Module):
    """A classifier of transformers with its preprocessing: float images in [0, 1], (B, 3, H, W) -> logits (B, K)."""

    def __init__(self, preprocessing: Preprocessing, net: nn.Module) -> None:
        super().__init__()
        self.preprocessing, self.net = preprocessing, net

    def forward(self, pictures: Tensor) -> Tensor:
        """The logits of the pictures."""
        return self.net(pixel_values=self.preprocessing(pictures)).logits


def of_transformers(source: str, concepts: Sequence[str], named: Mapping[str, str]) -> Judge:
    """A judge from an image-classification checkpoint of transformers, on the CPU.

    Args:
        source: a folder or a hub id.
        concepts: the concepts, each of which must be a class.
        named: concept -> name of its class, where the two names differ.

    Raises WorldUnavailable for a checkpoint that can't be loaded or is none of images, and for a class that it lacks.
    """
    from transformers import AutoImageProcessor, AutoModelForImageClassification, logging

    logging.disable_progress_bar()
    said = f"the judge {source!r}"
    try:
        net, facts = AutoModelForImageClassification.from_pretrained(source, output_loading_info=True)
        processor = AutoImageProcessor.from_pretrained(source).to_dict()
    except Exception as error:  # transformers, the hub's client and its transport raise many types
        first = str(error).strip().split("\n", 1)[0]
        raise WorldUnavailable(
            f"{said} can't be loaded as an image classifier of transformers ({type(error).__name__}: {first}); it must "
            "be a folder that save_pretrained wrote, with preprocessor_config.json, or a hub id"
        ) from error
    if missing := sorted(facts["missing_keys"]):
        raise WorldUnavailable(
            f"{said} lacks {len(missing)} tensors of its network, e.g. {missing[0]}; they are random"
        )
    labels = [net.config.id2label[i] for i in range(net.config.num_labels)]
    heads = [m for m in net.modules() if isinstance(m, nn.Linear) and m.out_features == len(labels)]
    if not heads:
        raise WorldUnavailable(f"{said} has no linear last layer of {len(labels)} classes; take another classifier")
    module = Checkpoint(Preprocessing(_config(processor, said)), net.float())
    return Judge(classes([[label] for label in labels], concepts, named, said), module, heads[-1])


def of_timm(name: str, concepts: Sequence[str], named: Mapping[str, str]) -> Judge:
    """A judge from a classifier of timm, on the CPU.

    Args:
        name: as for `networks.load`.
        concepts, named: as for `of_transformers`. A class of ImageNet has its WordNet words as names, and its synset.

    Raises WorldUnavailable for a network that can't be loaded, and for a class that it lacks.
    """
    backbone = networks.load(name)
    net, said = backbone.net, f"the judge {name!r}"
    head = net.get_classifier()
    if not isinstance(head, nn.Linear):
        raise WorldUnavailable(
            f"{said}: its last layer is no linear one ({type(head).__name__}); take another classifier"
        )
    labels = _names(net.pretrained_cfg, head.out_features)
    return Judge(classes(labels, concepts, named, said), Preprocessed(backbone.config, net), head)


def classes(
    names: Sequence[Sequence[str]], concepts: Sequence[str], named: Mapping[str, str], said: str
) -> tuple[str, ...]:
    """The labels of a judge: the concept for each class that shows one, and the first of its names for other classes.

    Args:
        names: for each class, its names.
        concepts: the concepts.
        named: concept -> name of its class, where the two names differ.
        said: name of the judge for messages.

    Raises WorldUnavailable for a concept without a class, and for two concepts with one class.
    """
    place: dict[str, int] = {}
    for i, each in enumerate(names):
        for name in each:
            place.setdefault(same_letters(name), i)
    labels: dict[int, str] = {}
    for concept in concepts:
        wanted = named.get(concept, concept)
        index = place.get(same_letters(wanted))
        if index is None:
            firsts = [each[0] for each in names]
            known = nearest(wanted, firsts if len(firsts) <= NEAR else _alike(wanted, names))
            raise WorldUnavailable(
                f"{said} has no class {wanted!r} for the concept {concept!r} among its {len(names)}: {known}; name it "
                f"with `labels: {{{concept}: CLASS}}` of the judge"
            )
        if index in labels:
            raise WorldUnavailable(f"{said}: {labels[index]!r} and {concept!r} have the same class {names[index][0]!r}")
        labels[index] = concept
    taken, found = {same_letters(concept) for concept in concepts}, []
    for i, each in enumerate(names):
        label = labels.get(i) or each[0]
        if i not in labels:  # two classes of ImageNet are called "crane"
            label = label if same_letters(label) not in taken else f"{label} (class {i})"
            taken.add(same_letters(label))
        found.append(label)
    return tuple(found)


def _alike(wanted: str, names: Sequence[Sequence[str]]) -> list[str]:
    """Some names of classes that resemble a name, or the first ones."""
    import difflib

    every = [name for each in names for name in each]
    return difflib.get_close_matches(wanted, every, NEAR, 0.5) or every[:NEAR]


def _names(config: Mapping[str, Any], count: int) -> list[list[str]]:
    """The names of each class of a timm network: those that it came with, or WordNet's for ImageNet's classes."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    given, described = config.get("label_names"), config.get("label_descriptions") or {}
    if given:
        return [[name, *([described[name]] if name in described else [])] for name in given]
    if subset := infer_imagenet_subset({"num_classes": count}):
        info = ImageNetInfo(subset)
        return [[*info.index_to_description(i).split(", "), info.index_to_label_name(i)] for i in range(count)]
    return [[str(i)] for i in range(count)]


def _config(processor: Mapping[str, Any], said: str) -> dict[str, Any]:
    """timm's data config for the processor of a checkpoint. Raises WorldUnavailable for sizes of an unknown form."""
    size, crop = processor.get("size") or {}, processor.get("crop_size") or {}
    edge = size.get("shortest_edge")
    height, width = (size.get("height"), size.get("width")) if edge is None else (edge, edge)
    if not height or not width:
        raise WorldUnavailable(
            f"{said}: its processor has the size {size!r}; it must have height and width, or an edge"
        )
    side = (int(height), int(width))
    share, mode = 1.0, "squash"
    if processor.get("do_center_crop") and crop:
        short = edge or min(side)
        side = (int(crop["height"]), int(crop["width"]))
        share, mode = min(side) / short, "center"
    elif edge is not None and edge < WHOLE and processor.get("crop_pct"):
        share, mode = processor["crop_pct"], "center"
    normal = processor.get("do_normalize", True)
    return {
        "input_size": (3, *side),
        "interpolation": RESAMPLING.get(processor.get("resample", 2), "bilinear"),
        "crop_pct": share,
        "crop_mode": mode,
        "mean": tuple(processor["image_mean"]) if normal else (0.0, 0.0, 0.0),
        "std": tuple(processor["image_std"]) if normal else (1.0, 1.0, 1.0),
    }
