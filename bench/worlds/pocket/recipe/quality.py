"""Measure the quality of the pocket world. Each function returns lines of the table that `check` shows."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

from bench.backbones import pipeline
from bench.backbones.sampler import ImageSpec, sample
from bench.worlds.pocket.drawing import captions
from bench.worlds.pocket.drawing.dataset import FIRST_SEED
from bench.worlds.pocket.drawing.renderer import render
from bench.worlds.pocket.drawing.species import DOMAINS, NAMES, SPECIES
from bench.worlds.pocket.drawing.styles import STYLES
from bench.worlds.pocket.features import load_features
from bench.worlds.pocket.judges import classify, load_judge
from bench.worlds.pocket.weights import manifest
from bench.worlds.pocket.world import POCKET

TWINS = sorted({tuple(sorted((s.name, s.twin))) for s in SPECIES.values() if s.twin})


NAMELESS = captions.EVALUATE[2]  # template of prompts that name only a domain or a head noun


@dataclass(frozen=True)
class Finding:
    """One line of the table: a figure, its limit and the number of samples `n`.

    With `at_most` the limit is an upper limit, otherwise it is a lower limit.
    """

    what: str
    value: float
    bar: float | None  # the limit; None: the figure is only printed
    n: int
    note: str = ""
    at_most: bool = False

    @property
    def holds(self) -> bool:
        return self.bar is None or (self.value <= self.bar if self.at_most else self.value >= self.bar)


@dataclass(frozen=True)
class Batch:
    """Images with the indices of the species and the styles that they should show."""

    images: Tensor  # uint8 (N, 3, 64, 64)
    species: np.ndarray  # int64 (N,)
    style: np.ndarray  # int64 (N,)

    def judged(self, judge: torch.nn.Module) -> np.ndarray:
        return classify(judge, self.images.float() / 255).numpy()


def rendered(per_species: int, styles: Sequence[str], first_seed: int) -> Batch:
    """Render `per_species` images of each species in each of `styles`, with seeds from `first_seed` on."""
    jobs = [(k, STYLES.index(s), first_seed + i) for k in range(len(NAMES)) for s in styles for i in range(per_species)]
    images = np.stack([render(NAMES[k], STYLES[s], seed) for k, s, seed in jobs])
    table = np.array(jobs)
    return Batch(torch.from_numpy(images).permute(0, 3, 1, 2), table[:, 0], table[:, 1])


def generated(model: pipeline.Backbone, per_species: int, styles: Sequence[str]) -> Batch:
    """Sample `per_species` images of each species in each of `styles`, with the evaluation templates in turn."""
    templates = captions.EVALUATE
    jobs = [(k, STYLES.index(s), i) for k in range(len(NAMES)) for s in styles for i in range(per_species)]
    specs = [
        ImageSpec(captions.caption(templates[i % len(templates)], NAMES[k], STYLES[s]), i // len(templates))
        for k, s, i in jobs
    ]
    table = np.array(jobs)
    return Batch(sample(model, specs, POCKET.protocol, seed=7, batch_size=64), table[:, 0], table[:, 1])


def by_species(batch: Batch, guess: np.ndarray) -> np.ndarray:
    """The accuracy of the predictions `guess` for each species, shape (24,)."""
    right = guess == batch.species
    return np.array([right[batch.species == k].mean() for k in range(len(NAMES))])


def judge_findings(folder: Path, n: int) -> tuple[list[Finding], dict[str, float]]:
    """Measure the judges on `n` rendered images of each species and style, with held-out seeds.

    Returns the findings and the accuracy of the species judge for each style.
    """
    pictures = rendered(n, STYLES, FIRST_SEED["held_out"] + 500_000)
    found: list[Finding] = []
    first: dict[str, float] = {}
    for name in ("species", "species_b"):
        guess = pictures.judged(load_judge(name, folder=folder))
        right = guess == pictures.species
        per_style = {s: float(right[pictures.style == i].mean()) for i, s in enumerate(STYLES)}
        plain = pictures.style == 0
        pairs = {
            f"{a} / {b}": float(right[plain & np.isin(pictures.species, (NAMES.index(a), NAMES.index(b)))].mean())
            for a, b in TWINS
        }
        worst_pair = min(pairs, key=lambda pair: pairs[pair])
        styles = ", ".join(f"{s} {v:.3f}" for s, v in per_style.items())
        mean = float(np.mean(list(per_style.values())))
        found += [
            Finding(f"judge {name}: rendered, plain", per_style["photo"], 0.99, int(plain.sum())),
            Finding(
                f"judge {name}: rendered, mean over styles",
                mean,
                0.93,
                len(right),
                styles,
            ),
            Finding(f"judge {name}: twins told apart, worst pair", pairs[worst_pair], 0.97, 2 * n, worst_pair),
        ]
        first = first or per_style
    style = pictures.judged(load_judge("style", folder=folder)) == pictures.style
    found.append(Finding("judge style: rendered", float(style.mean()), 0.99, len(style)))
    return found, first


def plain_findings(batch: Batch, folder: Path) -> list[Finding]:
    """Accuracy of both species judges on generated images in the plain style: mean, worst species and worst twin."""
    found = []
    for name in ("species", "species_b"):
        accuracy = by_species(batch, batch.judged(load_judge(name, folder=folder)))
        per = len(batch.images) // len(NAMES)
        worst = int(accuracy.argmin())
        twins = {name: accuracy[NAMES.index(name)] for pair in TWINS for name in pair}
        twin = min(twins, key=lambda name: twins[name])
        low = ", ".join(f"{NAMES[k]} {accuracy[k]:.2f}" for k in accuracy.argsort()[:4])
        found += [
            Finding(f"generated, plain, species mean ({name})", float(accuracy.mean()), 0.95, len(batch.images), low),
            Finding(f"generated, plain, worst species ({name})", float(accuracy[worst]), 0.85, per, NAMES[worst]),
            Finding(f"generated, plain, worst twin ({name})", float(twins[twin]), 0.85, per, twin),
        ]
    return found


def style_findings(batch: Batch, folder: Path, reachable: dict[str, float]) -> list[Finding]:
    """Accuracy of species and of style on generated images in the other styles.

    The accuracy of the species is divided by `reachable`, the accuracy of the judge on rendered images of the style.
    """
    species = batch.judged(load_judge("species", folder=folder)) == batch.species
    style = batch.judged(load_judge("style", folder=folder)) == batch.style
    found = []
    for i, name in enumerate(STYLES):
        rows = batch.style == i
        if rows.any():
            share = float(species[rows].mean()) / reachable[name]
            found.append(Finding(f"generated, {name}: species / reachable", share, 0.85, int(rows.sum())))
            found.append(
                Finding(f"generated, {name}: style as asked", float(style[rows].mean()), 0.95, int(rows.sum()))
            )
    return found


def brief_findings(model: pipeline.Backbone, folder: Path, n: int) -> list[Finding]:
    """Accuracy of images from short prompts, which name only a species, a style, a domain or a head noun.

    Only head nouns of several species are tested. An image is right if it shows any species of the domain or of the
    head noun.
    """
    nouns: dict[str, set[str]] = {}
    for row in SPECIES.values():
        nouns.setdefault(row.noun, set()).add(row.name)
    groups: dict[str, dict[str, set[str]]] = {
        "species alone": {captions.fill("{a_subject}", name): {name} for name in NAMES},
        "style alone": {captions.fill("{a_style}", style=style): {style} for style in STYLES},
        "domain alone": {captions.fill(NAMELESS, d): {row.name for row in rows} for d, rows in DOMAINS.items()},
        "head noun alone": {captions.fill(NAMELESS, noun): names for noun, names in nouns.items() if len(names) > 1},
    }
    found = []
    for what, wanted in groups.items():
        judge = load_judge("style" if what == "style alone" else "species", folder=folder)
        hits = []
        for prompt, names in wanted.items():
            specs = [ImageSpec(prompt, i) for i in range(max(1, n * 6 // len(wanted)))]
            images = sample(model, specs, POCKET.protocol, seed=7, batch_size=64)
            hits += [judge.labels[k] in names for k in classify(judge, images.float() / 255).tolist()]
        found.append(Finding(f"generated, {what}: as asked", float(np.mean(hits)), None, len(hits)))
    return found


def fid(a: Tensor, b: Tensor, folder: Path) -> float:
    """The Frechet distance of two sets of uint8 images in the world's 64 features, computed by torch-fidelity."""
    net = load_features(folder)
    with torch.no_grad():
        parts = ([net(x.float() / 255) for x in images.split(256)] for images in (a, b))
        statistics = [fid_features_to_statistics(torch.cat(features).double()) for features in parts]
    return float(fid_statistics_to_metric(*statistics, verbose=False)[KEY_METRIC_FID])


def speed_finding(model: pipeline.Backbone) -> Finding:
    """Sampling speed in images per second: the default sampler, one batch of 64 images after a warm-up."""
    specs = [ImageSpec(captions.caption(captions.EVALUATE[0], name), i) for i in range(3) for name in NAMES][:64]
    sample(model, specs, POCKET.protocol, seed=1, batch_size=64)
    start = time.perf_counter()
    sample(model, specs, POCKET.protocol, seed=2, batch_size=64)
    rate = 64 / (time.perf_counter() - start)
    note = f"{POCKET.protocol.num_inference_steps} steps, {torch.get_num_threads()} threads, {model.dtype}"
    return Finding("sampling, images a second", rate, 10, 64, note)


def drawing_finding() -> Finding:
    """Rendering speed in images per second on one core, over all species and styles."""
    start = time.perf_counter()
    for i, name in enumerate(NAMES):
        for style in STYLES:
            render(name, style, i)
    count = len(NAMES) * len(STYLES)
    return Finding("rendering, pictures a second a core", count / (time.perf_counter() - start), 100, count)


def twin_findings(folder: Path) -> list[Finding]:
    """The attribute distance and the text cosine of each pair of twins. Their spread makes the tasks differ."""
    record = manifest(folder)
    found = []
    for table, what in (("text_cosine", "twins' text cosine"), ("attribute_distance", "twins' attribute distance")):
        values = {f"{a} / {b}": record[table][a][b] for a, b in TWINS}
        note = ", ".join(f"{pair} {v:.2f}" for pair, v in sorted(values.items(), key=lambda item: item[1]))
        found.append(Finding(f"{what}, lowest", min(values.values()), None, len(TWINS), note))
        found.append(Finding(f"{what}, highest", max(values.values()), None, len(TWINS)))
    return found


COLD = """
import sys, time
start = time.perf_counter()
from pathlib import Path
import torch, timm, diffusers, transformers
from diffusers import StableDiffusionPipeline, AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer
imported = time.perf_counter()
from bench.worlds.pocket import judges, weights
folder = Path(sys.argv[1])
StableDiffusionPipeline.from_pretrained(weights.pipeline_folder(folder), local_files_only=True)
for name in judges.JUDGES:
    judges.load_judge(name, folder=folder)
print(imported - start, time.perf_counter() - imported)
"""


def cold_finding(folder: Path) -> Finding:
    """Seconds to verify and load the pipeline and the judges in a new process, without the import of the libraries.

    The note has the seconds of the import.
    """
    out = subprocess.run([sys.executable, "-c", COLD, str(folder)], capture_output=True, text=True, check=True).stdout
    imports, load = map(float, out.split()[-2:])
    return Finding("cold load of pipeline and judges, s", load, 5, 1, f"after {imports:.1f} s of imports", at_most=True)
