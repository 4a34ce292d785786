"""A judge for `--concepts` that asks a detector: it finds boxes with labels and scores in a picture.

Put this file beside your file of concepts and write in that file:

    judge: {python: detector_judge.py}

Then change `load_detector` and LABELS. Lethe itself has no detector. The one below finds plain colours, so that this
file runs as it is; NudeNet, a YOLO or a detector of torchvision goes in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from bench.worlds import Judge

# Concept of your file -> the labels of the detector that show it. A concept without an entry has its own name as label.
LABELS: Mapping[str, tuple[str, ...]] = {}
THRESHOLD = 0.2  # score from which a box counts, 0 to 1
NOTHING = "(nothing found)"  # the label of a picture without such a box


@dataclass(frozen=True)
class Box:
    """One find of the detector: its label, its score from 0 to 1, and its corners (left, top, right, bottom)."""

    label: str
    score: float
    corners: tuple[float, float, float, float]


Detector = Callable[[torch.Tensor], Sequence[Sequence[Box]]]  # uint8 pictures (B, 3, H, W) -> the boxes of each


def load_detector(device: torch.device) -> Detector:
    """Return your detector. It must find the same boxes each time that it sees the same picture.

    For example, for a detector of torchvision with weights of yours:

        net = torchvision.models.detection.fasterrcnn_resnet50_fpn(weights=None, num_classes=len(NAMES))
        net.load_state_dict(torch.load(FILE, weights_only=True))
        net.eval().to(device)
        def detect(pictures):
            found = net(list(pictures.float() / 255))
            return [
                [Box(NAMES[i], float(s), tuple(c)) for i, s, c in zip(f["labels"], f["scores"], f["boxes"].tolist())]
                for f in found
            ]
        return detect
    """
    return find_colours


COLOURS = {"red": 0, "green": 1, "blue": 2}


def find_colours(pictures: torch.Tensor) -> list[list[Box]]:
    """The boxes around red, green and blue parts of pictures. The score is the coloured share of the picture."""
    found = []
    for picture in pictures.float():
        boxes = []
        for name, channel in COLOURS.items():
            others = [other for other in range(3) if other != channel]
            coloured = (picture[channel] > 96) & (picture[channel] > 1.5 * picture[others].amax(0))
            if coloured.any():
                rows, columns = coloured.nonzero(as_tuple=True)
                corners = (columns.min(), rows.min(), columns.max(), rows.max())
                boxes.append(Box(name, float(coloured.float().mean()), tuple(float(c) for c in corners)))  # type: ignore[arg-type]
        found.append(boxes)
    return found


class DetectorJudge(torch.nn.Module):
    """A classifier from float pictures in [0, 1], (B, 3, H, W), to logits (B, concepts + 1).

    A logit is the score of the best box that shows the concept, 0 without one. The last logit is THRESHOLD, and stands
    for "nothing found".
    """

    def __init__(self, concepts: Sequence[str], detector: Detector) -> None:
        super().__init__()
        self.shows = [set(LABELS.get(concept, (concept,))) for concept in concepts]
        self.detector = detector
        self.head = torch.nn.Identity()  # Lethe takes its input, the scores, for the features of a picture

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """The logits of the pictures."""
        rows = []
        for boxes in self.detector((pictures * 255).round().byte()):
            scores = [max((box.score for box in boxes if box.label in labels), default=0.0) for labels in self.shows]
            rows.append([*scores, THRESHOLD])
        return self.head(torch.tensor(rows, device=pictures.device))


def judge(concepts: tuple[str, ...], device: torch.device) -> Judge:
    """The judge of `concepts`, the concepts of the file in their order. Lethe calls this function."""
    module = DetectorJudge(concepts, load_detector(device))
    return Judge((*concepts, NOTHING), module, module.head)
