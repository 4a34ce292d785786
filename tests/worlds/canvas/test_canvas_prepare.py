"""`prepare canvas` with a hub on this machine, and with folders of the same layout."""

import functools
import io
import shutil
import sys
from pathlib import Path

import easel
import pytest
from huggingface_hub import constants
from rich.console import Console
from support import hub_server

from bench.commands import main
from bench.core.config import RunConfig
from bench.plan.plan import resolve
from bench.worlds import WORLDS
from bench.worlds.canvas import judges, published
from bench.worlds.canvas.classes import SEED_IMAGES

TAKEN = (("Monet", "Dogs"), (SEED_IMAGES, "Architectures"))  # folders of images that only the parquet files have


@pytest.fixture(autouse=True)
def _small_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judges, "load", functools.partial(judges.load, options=easel.SMALL))


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory, pipeline_folder: Path) -> Path:
    """The three repositories, tiny: the authors' checkpoints, a third party's classifiers, the images."""
    root = tmp_path_factory.mktemp("hub")
    model = root / "ckpts" / published.MODEL
    shutil.copytree(pipeline_folder, model)
    (model / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"half precision")
    (model / "unet_ema").mkdir()
    shutil.copy(next((model / "unet").glob("*.safetensors")), model / "unet_ema")
    (root / "ckpts" / "diffusion" / "compvis").mkdir()
    (root / "ckpts" / "diffusion" / "compvis" / "compvis.ckpt").write_bytes(b"the same in another format")
    for folder, kinds in (("ckpts/cls_model", ("style",)), ("mirror/models", ("style", "object"))):
        (root / folder).mkdir(parents=True)
        for kind in kinds:
            easel.torch.manual_seed(0)
            easel.released(root / folder / judges.FILES[kind], len(judges.LABELS[kind]), **easel.SMALL)
    rows = [(easel.caption(*of), easel.jpeg(i), f"{i}.jpg") for of in TAKEN for i in range(1, 21)]
    rows += [(easel.caption("Pointillism", "Dogs"), easel.jpeg(1), "1.jpg")]
    for i, part in enumerate((rows[:25], rows[25:])):
        easel.parquet(root / "images" / "data" / f"train-0000{i}-of-00002-abc.parquet", part)
    (root / "images" / "README.md").write_text("license: mit")
    return root


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set without the folders TAKEN."""
    folder = easel.write(tmp_path_factory.mktemp("painted") / "data")
    for style, object in TAKEN:
        shutil.rmtree(folder / style / object)
    return folder


@pytest.fixture
def data(painted: Path, tmp_path: Path) -> Path:
    """A data folder with the images that the parquet files do not have."""
    (tmp_path / "data").mkdir()
    for style in painted.iterdir():
        if style.is_dir() and style.name not in {name for name, _ in TAKEN}:
            (tmp_path / "data" / style.name).symlink_to(style)
    for name, _ in TAKEN:
        (tmp_path / "data" / name).mkdir()
        for object in (painted / name).iterdir():
            (tmp_path / "data" / name / object.name).symlink_to(object)
    return tmp_path / "data"


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def repositories(release: Path) -> dict[str, Path | tuple[int, str, str]]:
    return {
        published.CHECKPOINTS.path: release / "ckpts",
        published.MIRROR.path: release / "mirror",
        published.IMAGES.path: release / "images",
    }


def prepared(data: Path) -> tuple[bool, str]:
    """Whether all is ready, and what was printed, in one line."""
    console = Console(file=io.StringIO(), width=400, record=True)
    return WORLDS.get("canvas").prepare(data, console), " ".join(console.export_text().split())


def test_all_comes_from_the_hub_once_and_is_run_without_a_backbone(
    data: Path, release: Path, online: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hub_server.serving(repositories(release)) as (endpoint, asked):
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        ready, said = prepared(data)
        assert ready, said
        got = {path.partition(f"/resolve/{hub_server.COMMIT}/")[2] for path in asked if "/resolve/" in path}
        assert "diffusion/diffuser/style50/unet/diffusion_pytorch_model.safetensors" in got
        assert not [path for path in got if "unet_ema" in path or "compvis" in path or path.endswith(".bin")]
        count = len(asked)
        assert prepared(data)[0]
        assert len(asked) == count, "what is there is not asked for again"
    mirrored = f"{endpoint}/datasets/Dexter/ckpt/resolve/{hub_server.COMMIT}/models/style50_cls.pth"
    assert "style50_cls.pth: the authors' repository does not have it, so a third party's copy is taken" in said
    assert mirrored in said
    assert "style50.pth: the authors'" not in said
    assert "images of styles that no experiment uses are left out: Pointillism (1)" in said
    assert "without a number" not in said
    assert "20400 images" in said
    for style, object in TAKEN:
        folder = data / style / object
        assert [(folder / f"{i}.jpg").read_bytes() for i in range(1, 21)] == [easel.jpeg(i) for i in range(1, 21)]
    assert list((data / published.PARQUET).iterdir()) == [], "a parquet file is deleted after it is unpacked"
    plan = resolve(RunConfig(world="canvas", suite="style", data=data, methods=("mimmu",)))
    assert plan.folder == data / published.MODEL


def test_folders_of_the_same_layout_need_no_hub(data: Path, release: Path) -> None:
    shutil.copytree(release / "ckpts", data, dirs_exist_ok=True)
    shutil.copytree(release / "images", data, dirs_exist_ok=True)
    ready, said = prepared(data)
    assert not ready
    assert f"judge of objects missing {data / 'cls_model' / 'style50_cls.pth'}" in said
    assert "hf download NormalUhr/UnlearnCanvas-ckpts --local-dir DIR; then --data DIR" in said
    shutil.copy(release / "mirror" / "models" / "style50_cls.pth", data / "cls_model")
    ready, said = prepared(data)
    assert ready, said
    assert len(list((data / published.PARQUET).iterdir())) == 2, "files of the user are kept"


def test_what_can_not_be_had_is_named_with_its_address(tmp_path: Path) -> None:
    ready, said = prepared(tmp_path)
    assert not ready
    assert "HF_HUB_OFFLINE keeps the hub out of reach" in said
    for repository in ("NormalUhr/UnlearnCanvas-ckpts", "--repo-type dataset OPTML-Group/UnlearnCanvas"):
        assert said.count(f"hf download {repository} --local-dir DIR; then --data DIR") == 1
    for what, place in (
        ("model", published.MODEL), ("judge of styles", "cls_model/style50.pth"),
        ("judge of objects", "cls_model/style50_cls.pth"), ("images", "{style}/{object}/{1..20}.jpg"),
    ):  # fmt: skip
        assert f"{what} missing {tmp_path / place}" in said
    assert "drive.google.com" in said
    assert "huggingface.co/datasets/Dexter/ckpt" in said
    assert main.main(["prepare", "canvas", "--data", str(tmp_path)]) == main.FAILED


def test_a_hub_without_a_file_and_files_that_do_not_fit_are_said(
    data: Path, release: Path, online: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("ckpts", "mirror", "images"):
        shutil.copytree(release / name, tmp_path / "hub" / name)
    hub = tmp_path / "hub"
    shutil.copy(hub / "mirror" / "models" / "style50_cls.pth", hub / "ckpts" / "cls_model" / "style50.pth")
    (hub / "mirror" / "models" / "style50_cls.pth").unlink()
    (first, second) = sorted((hub / "images" / "data").iterdir())
    first.write_bytes(b"no parquet file")
    shutil.rmtree(hub / "ckpts" / published.MODEL / "vae")
    with hub_server.serving(repositories(hub)) as (endpoint, asked):
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        ready, said = prepared(data)
    assert not ready
    assert "style50.pth tells 20 labels apart, and a judge of styles 51" in said
    pages = f"{endpoint}/NormalUhr/UnlearnCanvas-ckpts nor {endpoint}/datasets/Dexter/ckpt"
    assert f"neither {pages} has style50_cls.pth" in said
    assert f"model: {data / published.MODEL / 'vae'}" in said
    shutil.rmtree(data / published.MODEL)
    (hub / "ckpts" / published.MODEL / "model_index.json").unlink()
    with hub_server.serving(repositories(hub)) as (endpoint, _):
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        assert f"{endpoint}/NormalUhr/UnlearnCanvas-ckpts has no pipeline (model_index.json)" in prepared(data)[1]
    assert f"{first.name} is damaged, or no parquet file" in said
    assert not [path for path in asked if path.endswith(second.name)], "further files would fail as well"
    assert "images: 2 of 1020 folders of UnlearnCanvas are not as released" in said


def test_a_download_with_another_digest_than_the_hub_says_is_deleted(
    data: Path, release: Path, online: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = hub_server.lfs
    monkeypatch.setattr(hub_server, "lfs", lambda body: honest(body[:-1] + b"?"))
    with hub_server.serving(repositories(release)) as (endpoint, _):
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        ready, said = prepared(data)
    assert not ready
    assert "style50.pth: has sha256" in said
    assert "the download is deleted" in said
    assert not (data / "cls_model" / "style50.pth").exists()


def test_parquet_files_that_were_unpacked_are_not_downloaded_again(
    data: Path, release: Path, online: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(release / "ckpts", data, dirs_exist_ok=True)
    shutil.copy(release / "mirror" / "models" / "style50_cls.pth", data / "cls_model")
    hub = tmp_path / "hub"
    rows = [(easel.caption(*of), easel.jpeg(i), None) for of in TAKEN for i in range(20)]
    first = easel.parquet(hub / "images" / "data" / "train-00000.parquet", rows[:25])
    second = easel.parquet(hub / "images" / "data" / "train-00001.parquet", [*rows[25:-1], ("?", b"", None)])
    with hub_server.serving(repositories(hub)) as (endpoint, asked):
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        ready, said = prepared(data)
        assert not ready
        assert "a caption is '?'" in said
        assert f"{data / 'data' / second.name}, " in said, "it is named as still missing"
        (data / "data" / second.name).unlink()
        easel.parquet(second, rows[25:])
        asked.clear()
        ready, said = prepared(data)
        assert ready, said
        assert [path for path in asked if path.endswith(first.name)] == []
        assert "images without a number, which got one in the order of the rows: 1." in said, "14 were there before"
        (data / "Monet" / "Dogs" / "3.jpg").unlink()
        ready, said = prepared(data)
    assert not ready
    assert f"all parquet files were unpacked before; delete {data / 'lethe' / 'unpacked.txt'}" in said


def test_without_the_reader_of_parquet_files_nothing_of_them_is_downloaded(
    data: Path, release: Path, online: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # importing it fails, as where it is not installed
    with hub_server.serving(repositories(release)) as (endpoint, asked):
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        ready, said = prepared(data)
    assert not ready
    assert "pip install -c constraints.txt -e '.[canvas]'" in said
    assert not [path for path in asked if "OPTML" in path]
