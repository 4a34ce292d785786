"""General quality: images for captions of any scenes, which name no concept of the task."""

from __future__ import annotations

from metrics import fid
from metrics.base import Evidence, Metric, MissingEvidence, Score
from metrics.probes import CaptionImages


def _images(evidence: Evidence) -> CaptionImages:
    if evidence.captions is None:
        raise MissingEvidence("the images for captions are missing")
    return evidence.captions


def similarity(evidence: Evidence) -> Score | None:
    """Mean cosine of the CLIP embeddings of an image and of its caption, -1 to 1, more is better.

    Returns None if the world has no captions or no CLIP model. Raises MissingEvidence.
    """
    values = _images(evidence).alignment
    return None if values is None or not len(values) else Score(float(values.double().mean()), len(values))


def distance(evidence: Evidence) -> Score | None:
    """Frechet distance between the images for all captions and reference images, at least 0, less is better.

    The formula is that of the metric `fid`. The reference images are those of the world, or other images of the
    untouched model for the same captions. Returns None for fewer than two images or reference images, which have no
    covariance. Raises MissingEvidence.
    """
    images = _images(evidence)
    return fid.distance(images.features.double(), images.reference.double())


CAPTION_CLIP = Metric(
    name="caption_clip",
    about="mean cosine of an image and its caption under the world's CLIP model, over the captions of the world",
    unit="",
    higher_is_better=True,
    low=-1.0,
    high=1.0,
    source="Radford et al., ICML 2021; Hessel et al., EMNLP 2021; open_clip",
    compute=similarity,
    needs=("captions",),
    headline=True,
    digits=3,
)

CAPTION_FID = Metric(
    name="caption_fid",
    about="Frechet distance of the images for the world's captions from reference images, same features as fid",
    unit="",
    higher_is_better=False,
    low=0.0,
    high=float("inf"),
    source="Heusel et al., NeurIPS 2017; torch-fidelity",
    compute=distance,
    distribution=True,
    needs=("captions",),
    headline=True,
)
