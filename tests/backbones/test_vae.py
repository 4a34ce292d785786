import pytest
import torch

from bench.backbones import pipeline
from bench.backbones.pipeline import Backbone
from bench.backbones.sampler import decode
from bench.backbones.vae import encode
from bench.training.neutral.pictures import drawn
from bench.worlds.pocket import weights
from bench.worlds.pocket.world import POCKET


@pytest.fixture(scope="module")
def pocket() -> Backbone:
    return pipeline.load(weights.pipeline_folder(), torch.device("cpu"), precision="fp32")


def psnr(given: torch.Tensor, found: torch.Tensor) -> float:
    """Mean over pictures, dB."""
    error = (given.float() - found.float()).square().mean((1, 2, 3))
    return float((10 * torch.log10(255**2 / error)).mean())


def test_decoding_gives_the_picture_back(pocket: Backbone) -> None:
    pictures = torch.cat([POCKET.reference(concept, 1) for concept in POCKET.concepts[::4]])
    latents = encode(pocket, pictures, batch=3)
    assert latents.shape == (len(pictures), *pocket.latent_shape)
    assert latents.dtype == torch.float32
    assert 0.5 < latents.std() < 1.5  # the U-Net's scale
    assert psnr(pictures, decode(pocket, latents, [""] * len(latents))) > 27  # of two pictures of each species: 29.5 dB
    others = drawn(8, 64)[0]  # in colours that this VAE hardly knows: 21.6 dB of 88
    assert psnr(others, decode(pocket, encode(pocket, others, batch=8), [""] * len(others))) > 19
    assert psnr(others, decode(pocket, encode(pocket, others.flip(0), batch=8), [""] * len(others))) < 15


def test_latents_are_the_mean_times_the_factor(model: Backbone) -> None:
    pictures = torch.randint(256, (3, 3, 64, 32), dtype=torch.uint8)
    expected = model.vae.encode(pictures.float() / 127.5 - 1).latent_dist.mean * model.vae.config.scaling_factor
    latents = encode(model, pictures, batch=2)
    assert latents.shape == (3, 4, 16, 8)
    assert torch.allclose(latents, expected, atol=1e-5)
    assert torch.equal(encode(model, pictures, batch=2), latents)  # nothing is drawn at random


def test_precision_of_forward_passes_makes_no_difference(pocket: Backbone) -> None:
    half = Backbone(pocket.pipeline, pocket.device, torch.bfloat16)
    pictures = POCKET.reference(POCKET.concepts[0], 2)
    assert torch.equal(encode(half, pictures, batch=2), encode(pocket, pictures, batch=2))


@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        (torch.zeros(2, 3, 64, 64), "float32"),
        (torch.zeros(3, 64, 64, dtype=torch.uint8), r"\(3, 64, 64\)"),
        (torch.zeros(2, 64, 64, 3, dtype=torch.uint8), r"\(2, 64, 64, 3\)"),
        (torch.zeros(1, 3, 64, 62, dtype=torch.uint8), "multiples of 4"),
    ],
)
def test_invalid_images_raise(model: Backbone, pictures: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode(model, pictures, batch=2)
