"""The released classifiers' format, in a smaller network of the same kind; in the real size where that is slow."""

from pathlib import Path

import pytest
import timm
import torch
from easel import SMALL, released
from torchvision import transforms
from torchvision.transforms.functional import to_pil_image

from bench.worlds import WorldUnavailable
from bench.worlds.canvas import judges
from bench.worlds.canvas.classes import OBJECTS, STYLE_LABELS


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.nn.Module]:
    path = tmp_path_factory.mktemp("judges") / "style50.pth"
    return path, released(path, 51, **SMALL)


def published(image: torch.Tensor) -> torch.Tensor:
    """The published preprocessing of one uint8 picture."""
    steps = [transforms.Resize((224, 224)), transforms.ToTensor(), transforms.Normalize([0.5], [0.5])]
    return transforms.Compose(steps)(to_pil_image(image))[None]


@pytest.mark.parametrize("side", [512, 224, 96])
def test_preprocessing_is_the_published_one_up_to_its_rounding(side: int) -> None:
    image = torch.randint(0, 256, (3, side, side), dtype=torch.uint8)
    ours = judges.preprocessed(image[None].float() / 255)
    assert ours.shape == (1, 3, 224, 224)
    assert (ours - published(image)).abs().max() < 2 * 1.01 / 255  # a step of a byte, on a scale from -1 to 1


def test_a_picture_need_not_be_square() -> None:
    image = torch.randint(0, 256, (3, 100, 300), dtype=torch.uint8)
    assert (judges.preprocessed(image[None].float() / 255) - published(image)).abs().max() < 2 * 1.01 / 255


def test_a_released_file_judges_as_its_network_does(checkpoint: tuple[Path, torch.nn.Module]) -> None:
    path, net = checkpoint
    judge = judges.load(path, "style", "cpu", SMALL)
    assert judge.labels == STYLE_LABELS
    assert not judge.module.training
    assert not any(p.requires_grad for p in judge.module.parameters())
    image = torch.randint(0, 256, (3, 512, 512), dtype=torch.uint8)
    with torch.no_grad():
        seen = []
        judge.head.register_forward_hook(lambda module, given, out: seen.append(given[0]))
        logits, expected = judge.module(image[None].float() / 255), net(published(image))
    assert torch.allclose(logits, expected, atol=2e-3)
    assert seen[0].shape == (1, 32)
    assert torch.allclose(judge.head(seen[0]), logits)


def test_half_precision_weights_are_widened(tmp_path: Path) -> None:
    net = released(tmp_path / "a.pth", 20, **SMALL)
    torch.save({"model_state_dict": net.half().state_dict()}, tmp_path / "a.pth")
    judge = judges.load(tmp_path / "a.pth", "object", "cpu", SMALL)
    assert judge.labels == OBJECTS
    assert {p.dtype for p in judge.module.parameters()} == {torch.float32}


def test_the_judge_of_the_other_axis_is_told_apart(checkpoint: tuple[Path, torch.nn.Module]) -> None:
    with pytest.raises(
        WorldUnavailable, match="51 labels apart, and a judge of objects 20; 51 labels has the judge of s"
    ):
        judges.load(checkpoint[0], "object", "cpu", SMALL)


def test_another_architecture_says_what_differs(tmp_path: Path, checkpoint: tuple[Path, torch.nn.Module]) -> None:
    with pytest.raises(WorldUnavailable, match=r"vit_large.* of 51 labels: 12 tensors are missing \(blocks\.2"):
        judges.load(checkpoint[0], "style", "cpu", {**SMALL, "depth": 3})
    with pytest.raises(WorldUnavailable, match=r"12 tensors are unused \(blocks\.1"):
        judges.load(checkpoint[0], "style", "cpu", {**SMALL, "depth": 1})
    with pytest.raises(WorldUnavailable, match=r"of another shape \(cls_token"):
        judges.load(checkpoint[0], "style", "cpu", {**SMALL, "embed_dim": 16})
    one = tmp_path / "wrapped.pth"
    content = torch.load(checkpoint[0])["model_state_dict"]
    torch.save({"model_state_dict": {f"module.{name}": value for name, value in content.items()}}, one)
    with pytest.raises(WorldUnavailable, match=r"unused \(module\."):
        judges.load(one, "style", "cpu", SMALL)


def test_an_unreadable_file_is_named_and_runs_no_code(tmp_path: Path, checkpoint: tuple[Path, torch.nn.Module]) -> None:
    cut = tmp_path / "cut.pth"
    cut.write_bytes(checkpoint[0].read_bytes()[:-5000])
    with pytest.raises(WorldUnavailable, match=r"cut\.pth is cut short, or no checkpoint"):
        judges.load(cut, "style", "cpu", SMALL)
    (tmp_path / "page.pth").write_text("<html>quota exceeded</html>")
    with pytest.raises(WorldUnavailable, match=r"page\.pth is cut short, or no checkpoint"):
        judges.load(tmp_path / "page.pth", "style", "cpu", SMALL)
    torch.save(timm.create_model(judges.ARCHITECTURE, **SMALL), tmp_path / "whole.pth")  # a pickled network: code
    with pytest.raises(WorldUnavailable, match=r"whole\.pth is cut short, or no checkpoint"):
        judges.load(tmp_path / "whole.pth", "style", "cpu", SMALL)
    torch.save({"state_dict": {}}, tmp_path / "other.pth")
    with pytest.raises(WorldUnavailable, match=r"no entry 'model_state_dict'.*found: state_dict"):
        judges.load(tmp_path / "other.pth", "style", "cpu", SMALL)


def test_a_missing_file_says_where_it_is_had_and_goes(tmp_path: Path) -> None:
    with pytest.raises(WorldUnavailable) as error:
        judges.locate(tmp_path, "object")
    said = str(error.value)
    assert "classifiers/style50_cls.pth nor" in said
    assert "cls_model/style50_cls.pth" in said
    assert judges.RELEASE in said
    for folder in reversed(judges.FOLDERS):  # the first of them wins
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "style50_cls.pth").write_bytes(b"")
        assert judges.locate(tmp_path, "object").parent.name == folder
    with pytest.raises(WorldUnavailable, match=r"not at .*none\.pth: .*prepare canvas` fetches style50\.pth"):
        judges.load(tmp_path / "none.pth", "style", "cpu", SMALL)
    with pytest.raises(ValueError, match="unknown judge 'class'; known: style, object"):
        judges.load(tmp_path / "none.pth", "class", "cpu")  # type: ignore[arg-type]


@pytest.mark.huge
@pytest.mark.parametrize(("kind", "labels"), [("style", 51), ("object", 20)])
def test_the_real_architecture_loads_from_a_file_of_the_released_format(tmp_path: Path, kind: str, labels: int) -> None:
    path = tmp_path / judges.FILES[kind]
    net = released(path, labels)
    judge = judges.load(path, kind, "cpu")  # type: ignore[arg-type]
    assert (judge.head.in_features, judge.head.out_features) == (1024, labels)
    assert sum(p.numel() for p in judge.module.parameters()) == sum(p.numel() for p in net.parameters()) > 303e6
    image = torch.rand(1, 3, 512, 512)
    with torch.no_grad():
        assert torch.allclose(judge.module(image), net(judges.preprocessed(image)), atol=1e-5)
    path.unlink()  # 1.2 GB
