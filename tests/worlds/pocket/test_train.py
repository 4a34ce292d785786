"""From nothing to a folder that stock libraries load: the whole recipe at its smallest, and what damage is told."""

import dataclasses
import json
import shutil

import open_clip
import pytest
import torch
import torch_fidelity
from diffusers import StableDiffusionPipeline

from bench.worlds.pocket import clip, judges, weights
from bench.worlds.pocket.drawing.species import NAMES
from bench.worlds.pocket.drawing.styles import STYLES
from bench.worlds.pocket.features import DIMENSIONS, FEATURES, load_features
from bench.worlds.pocket.recipe import check, quality, train
from bench.worlds.pocket.world import POCKET

pytestmark = pytest.mark.huge  # nearly all take what is built once


class Pictures(torch.utils.data.Dataset):
    """uint8 pictures as the data set that torch-fidelity takes."""

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """`train --stage all --quick` without one species."""
    out = tmp_path_factory.mktemp("pocket")
    train.main(["--stage", "all", "--quick", "--out", str(out), "--without", "tulip", "--threads", "1"])
    return out


@pytest.fixture
def folder(built):
    return built / "weights"


def test_stock_diffusers_loads_and_samples_the_folder(folder):
    pipeline = StableDiffusionPipeline.from_pretrained(folder / "pipeline", local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    assert {m.dtype for m in (pipeline.unet, pipeline.vae, pipeline.text_encoder)} == {torch.float32}
    assert any(name.endswith("attn2.to_k.weight") for name, _ in pipeline.unet.named_parameters())
    images = pipeline(["a photo of a blue jay", "a zebra"], num_inference_steps=2).images
    assert [image.size for image in images] == [(64, 64)] * 2


def test_stock_open_clip_loads_the_clip_folder(folder):
    model, _, _preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder / 'clip'}")
    tokens = open_clip.get_tokenizer(f"local-dir:{folder / 'clip'}")(["a photo of a dog", "a zebra"])
    assert model.encode_text(tokens).shape == (2, 64)
    ours, _ = clip.load_clip(folder=folder)
    torch.testing.assert_close(ours.encode_text(tokens), model.eval().encode_text(tokens), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "labels"), [("species", NAMES), ("species_b", NAMES), ("style", STYLES)])
def test_judges_give_a_logit_for_each_label(folder, name, labels):
    judge = judges.load_judge(name, folder=folder)
    images = torch.rand(5, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert judge(images).shape == (5, len(labels))
    assert judges.classify(judge, images, batch=2).tolist() == judge(images).argmax(1).tolist()
    assert not any(p.requires_grad for p in judge.parameters())


def test_the_two_species_judges_are_different_architectures():
    assert judges.JUDGES["species"].architecture != judges.JUDGES["species_b"].architecture


def test_torch_fidelity_takes_the_features_by_name(folder):
    images = torch.randint(0, 256, (90, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert load_features(folder)(images[:4].float() / 255).shape == (4, DIMENSIONS)
    result = torch_fidelity.calculate_metrics(
        input1=Pictures(images),
        input2=Pictures(images.flip(0)),
        fid=True,
        feature_extractor=FEATURES,
        feature_extractor_weights_path=str(folder),
        cuda=False,
        verbose=False,
    )
    assert result["frechet_inception_distance"] == pytest.approx(0, abs=1e-3), "the same pictures in another order"
    other = torch.randint(0, 256, (70, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    by_name = torch_fidelity.calculate_metrics(
        input1=Pictures(images),
        input2=Pictures(other),
        fid=True,
        feature_extractor=FEATURES,
        feature_extractor_weights_path=str(folder),
        cuda=False,
        verbose=False,
    )
    assert quality.fid(images, other, folder) == pytest.approx(by_name["frechet_inception_distance"], rel=1e-3)


def test_manifest_says_what_was_trained(folder):
    record = weights.manifest(folder)
    assert record["without"] == ["tulip"]
    assert set(record["stages"]) == {"vae", "text", "unet", "species", "species_b", "style", "features", "clip"}
    assert record["recipe"]["unet"]["steps"] == record["stages"]["unet"]["steps"]
    for table in ("text_cosine", "attribute_distance"):
        assert record[table]["daisy"]["chamomile"] == record[table]["chamomile"]["daisy"]
    assert set(record["files"]) == set(weights.digests(folder))


def test_the_same_command_again_trains_nothing_and_changes_nothing(built):
    before = (built / "weights" / "pipeline" / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()
    train.main(["--stage", "unet", "--quick", "--out", str(built), "--without", "tulip", "--threads", "1"])
    assert (built / "weights" / "pipeline" / "unet" / "diffusion_pytorch_model.safetensors").read_bytes() == before


def test_damage_names_the_file_and_the_digest(folder, tmp_path):
    copy = tmp_path / "weights"
    shutil.copytree(folder, copy)
    victim = copy / "judges" / "style.safetensors"
    digest = json.loads((copy / "manifest.json").read_text())["files"]["judges/style.safetensors"]
    data = bytearray(victim.read_bytes())
    data[-1] ^= 1
    victim.write_bytes(data)
    with pytest.raises(weights.WeightsError, match=f"style.safetensors is damaged: expected sha256 {digest}, found"):
        judges.load_judge("style", folder=copy)
    victim.unlink()
    with pytest.raises(
        weights.WeightsError, match=f"style.safetensors is missing; expected a file with sha256 {digest}"
    ):
        weights.verify(copy)
    judges.load_judge("species", folder=copy)  # the others are unharmed
    (copy / "manifest.json").unlink()
    with pytest.raises(weights.WeightsError, match=r"rebuild it with `python -m bench.worlds.pocket.recipe.train"):
        weights.pipeline_folder(copy)


def test_bad_requests_are_refused_before_any_work(tmp_path, capsys):
    with pytest.raises(SystemExit):
        train.main(["--out", str(tmp_path / "x"), "--without", "siberian huskey"])
    assert "nearest known: siberian husky" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
    with pytest.raises(ValueError, match="known: species, species_b, style"):
        judges.load_judge("breed")


def test_check_measures_and_says_what_is_missed(folder, capsys, monkeypatch):
    """An untrained model misses its bars, and the exit says so; two sampling steps are enough for that."""
    monkeypatch.setattr(POCKET, "protocol", dataclasses.replace(POCKET.protocol, num_inference_steps=2))
    with pytest.raises(SystemExit, match=r"bars missed: .*generated, plain, species mean"):
        check.main(["--weights", str(folder), "--per-species", "2", "--write"])
    assert "MISSED" in capsys.readouterr().out
    kept = weights.manifest(folder)["quality"]
    assert any(f["what"].startswith("FID rendered : rendered") and f["n"] == 48 for f in kept)
