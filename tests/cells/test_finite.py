"""NaN and infinite values fail a cell by the name of the stage, and pictures that show nothing are counted."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support import tiny

from bench.backbones.finite import NonFiniteImage
from bench.backbones.pipeline import Backbone
from bench.backbones.vae import encode
from bench.board import tables
from bench.cells import scores
from bench.cells.executor import Executor
from bench.cells.images import FLAT, shows_nothing
from bench.core.config import RunConfig
from bench.core.results import CellResult
from bench.core.score import Score
from bench.plan.plan import resolve
from bench.report import cell_warnings
from bench.worlds import WORLDS, World
from bench.worlds.base import Clip
from metrics import METRICS

FEW = {"num_inference_steps": "2", "images_per_concept": "2", "forget_images": "2", "probe_timesteps": "2"}
METRIC_NAMES = ("ua", "fid", "clip", "mi")
NAN, INF = float("nan"), float("inf")


def executor(out: Path, **more: Any) -> Executor:
    given: dict[str, Any] = {"metrics": METRIC_NAMES, "overrides": {"protocol": FEW}, "curve": 0, **more}
    return Executor(resolve(RunConfig(("pretrained",), "smoke", "tiny", out=out, **given)))


def fill(parameter: torch.Tensor, value: float) -> None:
    with torch.no_grad():
        parameter.fill_(value)


def text(run: Executor, value: float) -> None:
    parameters = dict(run.context.backbone.pipeline.text_encoder.named_parameters())
    fill(next(p for name, p in parameters.items() if name.endswith("final_layer_norm.bias")), value)


def unet(run: Executor, value: float) -> None:
    fill(run.context.backbone.unet.conv_out.bias, value)


def vae(run: Executor, value: float) -> None:
    fill(run.context.backbone.vae.decoder.conv_out.bias, value)


def overflowing_vae(run: Executor, value: float) -> None:
    """All weights are finite; what the decoder computes with them is not."""
    with torch.no_grad():
        run.context.backbone.vae.decoder.conv_in.weight.mul_(3e38)


def judge(run: Executor, value: float) -> None:
    head = run.context.judges.judges["species"].head
    assert isinstance(head, torch.nn.Linear)
    fill(head.bias, value)


class Added(torch.nn.Module):
    """Adds a number."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.value


def features(run: Executor, value: float) -> None:
    run.context.judges.extractor.pool = torch.nn.Sequential(run.context.judges.extractor.pool, Added(value))


def clip(run: Executor, value: float) -> None:
    assert run.context.judges.clip
    fill(run.context.judges.clip.model.visual.proj, value)


def probe(run: Executor, value: float) -> None:
    """The networks break when the pictures are there."""
    assert run.artifacts.images(run.artifacts.weights(run.plan.cells[0]))
    unet(run, value)


STAGES: list[tuple[Callable[[Executor, float], None], str, bool]] = [
    (text, "the text encoder's embeddings are not finite for", False),
    (unet, "the sampled latents are not finite for", False),
    (vae, "the pixels that the VAE decoded are not finite for", False),
    (overflowing_vae, "the pixels that the VAE decoded are not finite for", False),
    (judge, "the outputs of the judge 'species' are not finite for", True),
    (features, "the features of 'tiny-8' are not finite for", True),
    (clip, "the similarities of the CLIP model are not finite for", True),
    (probe, "the predictions of the probe are not finite for", True),
]


@pytest.mark.parametrize("value", [NAN, INF])
@pytest.mark.parametrize(("broken", "said", "sampled"), STAGES, ids=lambda one: getattr(one, "__name__", ""))
def test_values_that_are_not_finite_fail_the_cell_with_stage_prompt_and_count(
    world: World, tmp_path: Path, broken: Callable[[Executor, float], None], said: str, sampled: bool, value: float
) -> None:
    run = executor(tmp_path)
    broken(run, value)
    result = run.run(run.plan.cells[0])
    assert result.status == "failed"
    assert f"NonFiniteImage: {said}" in result.reason
    assert any(spec.prompt in result.reason for spec in run.context.specs) or broken is text
    assert " in a batch, first for " in result.reason
    assert bool(run.artifacts.images.stored(None)) == sampled  # a picture that failed its check is not stored
    if sampled and broken is not probe:
        assert run.artifacts.judgements.stored(run.artifacts.images(None)) is None


def test_reference_pictures_and_encoded_pictures_are_checked_too(world: World, model: Backbone, tmp_path: Path) -> None:
    run = executor(tmp_path)
    judge(run, NAN)
    concept = world.concepts[0]
    with pytest.raises(NonFiniteImage, match=rf"'species' are not finite for 4 of 4.*'real picture 0 of {concept}'"):
        run.artifacts.reference(concept)
    fill(model.vae.quant_conv.bias, INF)
    pictures = torch.zeros(3, 3, 64, 64, dtype=torch.uint8)
    with pytest.raises(
        NonFiniteImage, match=r"the latents that the VAE encoded are not finite for 2 of 2.*'picture 0'"
    ):
        encode(model, pictures, 2)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_score_that_is_not_finite_fails_the_cell_by_the_name_of_the_metric(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    broken = dataclasses.replace(METRICS.get("ua"), compute=lambda seen: Score(value, 3))
    monkeypatch.setattr(scores.METRICS, "get", lambda name: broken)
    with pytest.raises(ArithmeticError, match=f"ua is {value}, which is not a finite number"):
        scores._score(broken, None)  # type: ignore[arg-type]


class Blank(tiny.Tiny):
    """The tiny world with its own name."""

    name = "blank"

    def clip(self, device: torch.device) -> Clip | None:
        return None


def test_pictures_that_show_nothing_are_a_column_and_a_warning(pipeline_folder: Path, tmp_path: Path) -> None:
    WORLDS.add("blank", Blank(pipeline_folder))
    run = Executor(
        resolve(
            RunConfig(("pretrained",), "smoke", "blank", out=tmp_path, metrics=("ua",), overrides={"protocol": FEW})
        )
    )
    whole = run.context.backbone.vae.decode

    def blackened(latents: torch.Tensor, **more: Any) -> tuple[torch.Tensor]:
        images = whole(latents, **more)[0].clone()
        images[0] = -1.0  # the first picture of each batch is black
        return (images,)

    run.context.backbone.vae.decode = blackened
    result = run.run(run.plan.cells[0])
    assert result.status == "ok"
    black = len(range(0, len(run.context.specs), run.plan.sample_batch)) / len(run.context.specs)
    assert result.degenerate == pytest.approx(black)
    assert CellResult.from_json(result.to_json()) == result
    for frame in (tables.cells_frame([result], ["ua"]), tables.board_frame([result], ["ua"], "full")):
        assert frame["degenerate"].tolist() == [pytest.approx(100 * black)]
    assert ("show nothing" in "".join(cell_warnings.sentences([result]))) == (black >= scores.MANY)
    sound = dataclasses.replace(result, degenerate=0.0)
    for frame in (tables.cells_frame([sound], ["ua"]), tables.board_frame([sound], ["ua"], "full")):
        assert "degenerate" not in frame


def test_an_image_shows_nothing_if_no_channel_spans_more_than_a_few_grey_levels() -> None:
    blue = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
    blue[:, 2] = 200
    blue[1, 0, 3, 3] = FLAT
    blue[2, 0, 3, 3] = FLAT + 1
    blue[3, 2, 0] = 100
    assert shows_nothing(blue).tolist() == [True, True, False, False]
