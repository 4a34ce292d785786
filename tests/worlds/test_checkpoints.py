"""Checkpoints of transformers and timm as judges: their classes, their preprocessing, and why they are refused."""

from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

from bench.worlds.base import WorldUnavailable, classify
from bench.worlds.judging.checkpoints import classes, of_timm, of_transformers

NAMES = ["red tulip", "daisy", "Poodle"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A vision transformer of random weights with three classes, as save_pretrained writes it."""
    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = ViTConfig(image_size=16, patch_size=8, id2label=dict(enumerate(NAMES)), **size)
    folder = str(tmp_path_factory.mktemp("checkpoint"))
    ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


def test_checkpoint_of_transformers_gives_its_own_logits(checkpoint: str) -> None:
    judge = of_transformers(checkpoint, ("poodle", "tulip"), {"tulip": "red tulip"})
    assert judge.labels == ("tulip", "daisy", "poodle")
    pictures = torch.randint(256, (2, 3, 16, 16), dtype=torch.uint8)
    judge.module.eval()
    with torch.no_grad():
        logits, features = classify(judge, pictures)
        images = [Image.fromarray(one.permute(1, 2, 0).numpy()) for one in pictures]
        given = ViTImageProcessor.from_pretrained(checkpoint)(images, return_tensors="pt")
        expected = ViTForImageClassification.from_pretrained(checkpoint)(**given).logits
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(judge.head(features), logits)


def test_checkpoint_that_lacks_a_concept_or_is_none_is_refused(checkpoint: str, tmp_path: Path) -> None:
    with pytest.raises(WorldUnavailable, match=r"no class 'tulip' for the concept 'tulip' among its 3: .*'red tulip'"):
        of_transformers(checkpoint, ("tulip",), {})
    with pytest.raises(WorldUnavailable, match="'daisy' and 'tulip' have the same class 'daisy'"):
        of_transformers(checkpoint, ("daisy", "tulip"), {"tulip": "daisy"})
    with pytest.raises(WorldUnavailable, match="can't be loaded as an image classifier of transformers"):
        of_transformers(str(tmp_path), ("tulip",), {})
    config = ViTConfig.from_pretrained(checkpoint)
    body = ViTForImageClassification(config).vit
    body.save_pretrained(tmp_path)
    config.save_pretrained(tmp_path)
    ViTImageProcessor.from_pretrained(checkpoint).save_pretrained(tmp_path)
    with pytest.raises(WorldUnavailable, match=r"lacks \d+ tensors of its network"):
        of_transformers(str(tmp_path), ("daisy",), {})


def test_classifier_of_timm_has_wordnets_names(tmp_path: Path) -> None:
    net = timm.create_model("test_resnet")
    timm.models.save_for_hf(net, str(tmp_path), safe_serialization=True)
    judge = of_timm(f"local-dir:{tmp_path}", ("tench", "corgi", "daisy"), {"corgi": "Pembroke Welsh corgi"})
    assert len(judge.labels) == len({*judge.labels}) == 1000
    assert judge.labels[0] == "tench"
    assert judge.labels[263] == "corgi"
    assert judge.labels[985] == "daisy"
    logits, features = classify(judge, torch.randint(256, (2, 3, 40, 30), dtype=torch.uint8))
    torch.testing.assert_close(judge.head(features), logits)


def test_other_classes_never_have_the_name_of_a_concept() -> None:
    names = [["crane", "n1"], ["crane", "n2"], ["heron"]]
    assert classes(names, ["heron"], {}, "j") == ("crane", "crane (class 1)", "heron")
    assert classes(names, ["crane"], {"crane": "n2"}, "j") == ("crane (class 0)", "crane", "heron")
