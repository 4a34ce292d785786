"""Every tensor of every file of weights is the network's, or the file is refused by the names of its tensors."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from support import ldm
from support.damaged_tensors import Damage, Tensors, damages

from bench.backbones import cached_folder, folder, pipeline
from bench.backbones.checks import folder_check, tensor_check
from bench.backbones.checks.tensor_check import TensorMismatch
from bench.backbones.given import model as given_model
from bench.backbones.locate import locate
from bench.core.config import RunConfig
from bench.plan.plan import resolve
from bench.worlds import World
from bench.worlds.pocket import weights
from bench.worlds.pocket.judges import JUDGES
from bench.worlds.pocket.judges import Judge as PocketJudge

VALUES = ("nan", "inf", "-inf")  # kinds of damage that a header does not show
FORMS = ("safetensors", "pickle", "shards")
parts = st.sampled_from(sorted(folder.NETWORKS))


@pytest.fixture(scope="module")
def backbone(pipeline_folder: Path) -> pipeline.Backbone:
    return pipeline.load(pipeline_folder, torch.device("cpu"), precision="fp32")


def file_of(model: Path, part: str) -> Path:
    return model / part / f"{folder.NETWORKS[part]}.safetensors"


def write(model: Path, part: str, tensors: Tensors, form: str = "safetensors") -> None:
    """Replace the weights of a network, in one of FORMS."""
    stem = folder.NETWORKS[part]
    file_of(model, part).unlink()
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    if form == "pickle":
        torch.save(tensors, model / part / f"{folder.PICKLED.get(part, stem)}.bin")
    elif form == "shards":
        names = sorted(tensors)
        halves = (names[::2], names[1::2])
        places = {n: f"{stem}-0000{i}-of-00002.safetensors" for i, half in enumerate(halves, 1) for n in half}
        for half in halves:
            save_file({name: tensors[name] for name in half}, model / part / places[half[0]], {"format": "pt"})
        index = json.dumps({"metadata": {"total_size": 1}, "weight_map": places})
        (model / part / f"{stem}.safetensors.index.json").write_text(index)
    else:
        save_file(tensors, file_of(model, part), {"format": "pt"})


@pytest.fixture(scope="module")
def single(pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Tensors:
    """The tensors of the tiny pipeline as one file."""
    file = tmp_path_factory.mktemp("file") / "one.safetensors"
    return load_file(ldm.write(StableDiffusionPipeline.from_pretrained(pipeline_folder), file))


@pytest.fixture
def copy(pipeline_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pipeline_folder, tmp_path / "copy"))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cached_folder.VARIABLE, str(tmp_path / "cache"))


@settings(max_examples=24)
@given(part=parts, damage=damages, form=st.sampled_from(FORMS))
def test_a_damaged_network_of_a_folder_is_refused(pipeline_folder: Path, part: str, damage: Damage, form: str) -> None:
    with tempfile.TemporaryDirectory() as work:
        model = Path(shutil.copytree(pipeline_folder, Path(work) / "model"))
        tensors, name = damage.apply(load_file(file_of(model, part)))
        write(model, part, tensors, form)
        with pytest.raises(TensorMismatch, match=re.escape(name)) as caught:
            locate(str(model))
        assert str(model / part) in str(caught.value)


@pytest.mark.parametrize("form", FORMS)
def test_a_sound_network_in_every_form_is_loaded_as_it_is(pipeline_folder: Path, copy: Path, form: str) -> None:
    for part in folder.NETWORKS:
        write(copy, part, load_file(file_of(pipeline_folder, part)), form)
    expected, found = pipeline.read(pipeline_folder), pipeline.read(locate(str(copy)))
    for part in folder.NETWORKS:
        state = getattr(found, part).state_dict()
        assert all(torch.equal(state[n], t) for n, t in getattr(expected, part).state_dict().items())


@settings(max_examples=20)
@given(damage=damages)
def test_a_damaged_single_file_is_refused(pipeline_folder: Path, single: Tensors, damage: Damage) -> None:
    with tempfile.TemporaryDirectory() as work:
        tensors, name = damage.apply(single)
        save_file(tensors, Path(work) / "one.safetensors")
        with pytest.raises(ValueError, match=r"one\.safetensors") as caught:
            locate(str(Path(work) / "one.safetensors"), str(pipeline_folder))
        if damage.kind == "added":
            assert name in str(caught.value)
        assert not cached_folder.cache().exists() or not any(cached_folder.cache().iterdir())


@settings(max_examples=20)
@given(damage=damages, text=st.booleans())
def test_a_damaged_oracle_is_refused(
    backbone: pipeline.Backbone, pipeline_folder: Path, damage: Damage, text: bool
) -> None:
    whole = load_file(file_of(pipeline_folder, "unet"))
    encoder = load_file(file_of(pipeline_folder, "text_encoder"))
    whole |= {f"text_encoder.{n.removeprefix('text_model.')}": t for n, t in encoder.items()} if text else {}
    with tempfile.TemporaryDirectory() as work:
        file = Path(work) / "oracle.safetensors"
        save_file(whole, file)
        given_model.check(file, pipeline_folder, whole=True)
        tensors, name = damage.apply(whole)
        save_file(tensors, file)
        reads = (
            (lambda: given_model.check(file, pipeline_folder, whole=True)),
            (lambda: given_model.read(file, pipeline_folder, backbone)),
        )
        with pytest.raises(ValueError, match=re.escape(name.removeprefix("text_encoder."))):
            reads[damage.kind in VALUES]()


@settings(max_examples=10)
@given(damage=damages)
def test_a_damaged_judge_is_refused(damage: Damage) -> None:
    judge = PocketJudge(JUDGES["style"])
    with tempfile.TemporaryDirectory() as work:
        file = Path(work) / "judge.safetensors"
        tensors, name = damage.apply(judge.state_dict())
        save_file({n: t.contiguous() for n, t in tensors.items()}, file)
        with pytest.raises(weights.WeightsError, match=re.escape(name)):
            weights.load_into(judge, file)


@pytest.mark.parametrize("kind", ["nan", "removed", "added", "resized"])
def test_damaged_weights_of_a_method_never_reach_the_networks(model: pipeline.Backbone, kind: str) -> None:
    tensors, name = Damage(kind, 0.5).apply({n: t.clone() for n, t in model.unet.state_dict().items()})
    changed = {name: tensors[name]} if name in tensors else {f"{name}_x": torch.zeros(1)}
    with pytest.raises(ValueError, match=re.escape(name)):
        model.weights(changed).__enter__()


def test_the_committed_pipeline_is_sound() -> None:
    folder_check.require_sound(weights.WEIGHTS / "pipeline")  # `verifies_backbone` of its world leaves the check out


def test_the_committed_oracles_fit_the_committed_pipeline() -> None:
    for file in sorted((weights.WEIGHTS / "oracles").glob("*.xz")):
        given_model.check(file, weights.WEIGHTS / "pipeline", whole=True)


def test_a_run_is_refused_before_anything_is_computed(copy: Path, world: World, tmp_path: Path) -> None:
    tensors, name = Damage("nan", 0.3).apply(load_file(file_of(copy, "vae")))
    write(copy, "vae", tensors)
    run = RunConfig(methods=("pretrained",), suite="smoke", world=world.name, backbone=str(copy), out=tmp_path / "out")
    with pytest.raises(TensorMismatch, match=re.escape(name)):
        resolve(run)
    assert not (tmp_path / "out").exists()


def test_harmless_tensors_of_old_files_are_left_out(copy: Path) -> None:
    tensors = load_file(file_of(copy, "text_encoder"))
    old = {f"text_model.{name.removeprefix('text_model.')}": tensor for name, tensor in tensors.items()}
    write(copy, "text_encoder", old | {"text_model.embeddings.position_ids": torch.arange(20)[None]})
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    vae = load_file(file_of(copy, "vae"))
    for new, name in older.items():
        vae = {n.replace(f"attentions.0.{new}.", f"attentions.0.{name}."): t for n, t in vae.items()}
    assert any(".proj_attn." in name for name in vae)
    write(copy, "vae", vae)
    locate(str(copy))
    write(copy, "vae", vae, "shards")  # where diffusers does not know the old names
    with pytest.raises(TensorMismatch, match="proj_attn"):
        locate(str(copy))


def test_files_that_end_early_are_refused(copy: Path) -> None:
    file = file_of(copy, "unet")
    content = file.read_bytes()
    for end in (0, 5, 100, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:end])
        with pytest.raises(ValueError, match=r"unet/.*damaged"):
            locate(str(copy))


def test_an_index_that_does_not_fit_its_files_is_refused(copy: Path) -> None:
    write(copy, "unet", load_file(file_of(copy, "unet")), "shards")
    index = copy / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    content = json.loads(index.read_text())
    places = content["weight_map"]
    first, second = sorted(places)[:2]
    for changed, message in (
        ({**places, "none.weight": places[first]}, r"names 1 tensors that are not in its files: none\.weight"),
        ({n: p for n, p in places.items() if n != first}, f"contains the tensor {first}, but .* does not name it"),
        ({**places, first: places[second]}, f"contains the tensor {first}, but .* has it in"),
        ({**places, first: "../else.safetensors"}, "is not the name of a file beside it"),
        ({}, "must contain 'weight_map'"),
    ):
        index.write_text(json.dumps({**content, "weight_map": changed}))
        with pytest.raises(ValueError, match=message):
            locate(str(copy))
    index.write_text(json.dumps(content))
    shard = copy / "unet" / places[first]
    held = shard.read_bytes()
    shard.unlink()
    with pytest.raises(FileNotFoundError, match=f"{shard.name} is missing"):
        locate(str(copy))
    shard.write_bytes(held)
    save_file({"x": torch.zeros(1)}, file_of(copy, "unet"))
    with pytest.raises(ValueError, match="contains both"):
        locate(str(copy))


def test_pickles_are_read_by_the_restricted_loader(copy: Path, tmp_path: Path) -> None:
    tensors = load_file(file_of(copy, "unet"))
    file_of(copy, "unet").unlink()
    file = copy / "unet" / "diffusion_pytorch_model.bin"
    torch.save({**tensors, "run": Path}, file)
    with pytest.raises(TensorMismatch, match=r"may run any code.*take the model's \.safetensors"):
        locate(str(copy))
    torch.save(tensors, file, _use_new_zipfile_serialization=False)
    locate(str(copy))
    file.write_bytes(file.read_bytes()[:3000])
    with pytest.raises(TensorMismatch, match=re.escape(str(file))):
        locate(str(copy))


@pytest.mark.parametrize("more", [{"state_dict": {}}, {"epoch": 3}])
def test_a_pickle_of_a_training_is_refused_in_a_folder(copy: Path, more: dict[str, object]) -> None:
    """The libraries that read folders would find no tensor in it, or fail at an entry."""
    tensors, file = load_file(file_of(copy, "vae")), copy / "vae" / "diffusion_pytorch_model.bin"
    file_of(copy, "vae").unlink()
    torch.save({"state_dict": tensors} if "state_dict" in more else {**tensors, **more}, file)
    with pytest.raises(TensorMismatch, match=f"entries that are no tensors: {next(iter(more))}; save"):
        locate(str(copy))


def test_only_the_header_of_a_stream_is_read(tmp_path: Path) -> None:
    save_file(
        {"a": torch.zeros(2, 3), "b": torch.zeros(4, dtype=torch.bfloat16)}, tmp_path / "x.safetensors", {"k": "v"}
    )
    content = (tmp_path / "x.safetensors").read_bytes()
    (tmp_path / "x.safetensors").write_bytes(content[: 8 + int.from_bytes(content[:8], "little")])
    with (tmp_path / "x.safetensors").open("rb") as stream:
        found = tensor_check.streamed_header(stream, tmp_path)
    assert {name: (tuple(t.shape), t.dtype) for name, t in found.items()} == {
        "a": ((2, 3), torch.float32),
        "b": ((4,), torch.bfloat16),
    }
