"""An oracle of the pocket world, built at its smallest: what it saw, what its file holds, which files are refused."""

import lzma
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import load

from bench.backbones import pipeline
from bench.core import digest
from bench.plan.given_models import oracle_hint, oracle_of
from bench.worlds.base import WorldUnavailable
from bench.worlds.pocket import weights
from bench.worlds.pocket.drawing import dataset
from bench.worlds.pocket.drawing.species import NAMES, SPECIES
from bench.worlds.pocket.judges import load_judge
from bench.worlds.pocket.recipe import diffusion, oracle, oracle_file, quality
from bench.worlds.pocket.recipe.settings import FULL
from bench.worlds.pocket.recipe.train import Job
from bench.worlds.pocket.world import POCKET

SMALLEST = ("--species", "toucan", "--quick", "--threads", "1")


class Built(NamedTuple):
    """What `oracle --quick` left, and the captions that its model was given."""

    file: Path
    work: Path
    captions: list[str]


@pytest.fixture(scope="module", autouse=True)
def hasty() -> Iterator[None]:
    """Files are compressed as they are, but with no effort: that takes eight of nine seconds otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(oracle_file, "XZ", [{**one, "preset": 0} for one in oracle_file.XZ])
        yield


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    out, captions = tmp_path_factory.mktemp("oracles"), []
    original = diffusion.training_caption
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diffusion, "training_caption", lambda *args: captions.append(original(*args)) or captions[-1])
        assert oracle.main([*SMALLEST, "--out", str(out)]) == 0
    return Built(out / "toucan.safetensors.xz", out / "work" / "toucan", captions)


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder where boards look, and nowhere else."""
    monkeypatch.setenv(oracle_file.VARIABLE, str(tmp_path / "shelf"))
    monkeypatch.setattr(oracle_file, "COMMITTED", tmp_path / "committed")
    return tmp_path / "shelf"


def tensors_in(file: Path) -> dict[str, torch.Tensor]:
    return {name: tensor.float() for name, tensor in load(lzma.decompress(file.read_bytes())).items()}


def content(file: Path) -> str:
    return digest.of_tensors(tensors_in(file))


def test_it_never_saw_its_species(built: Built) -> None:
    steps, batch = oracle.SMALL.unet.steps, oracle.SMALL.unet.batch
    assert len(built.captions) == steps * batch
    assert not any("toucan" in caption for caption in built.captions)
    assert sum(any(name in caption for name in NAMES) for caption in built.captions) > steps * batch / 2
    _, labels = Job(oracle.SMALL, ("toucan",), built.work).model_pictures()
    assert sorted({NAMES[k] for k in labels[:, 0]}) == sorted({*NAMES} - {"toucan"})
    for species in oracle_file.SPECIES:  # and so at full size
        rows = dataset.plan("model", FULL.per_species, FULL.photo_share, (species,))
        assert len(rows) == FULL.per_species * (len(NAMES) - 1)
        assert NAMES.index(species) not in {row[0] for row in rows}


def test_there_is_one_in_each_domain_and_it_lacks_a_near_twin() -> None:
    assert {*POCKET.oracle_concepts} == {*oracle_file.SPECIES}
    assert {POCKET.domain_of(species) for species in POCKET.oracle_concepts} == {*POCKET.domains}
    assert all(SPECIES[species].twin for species in POCKET.oracle_concepts)
    assert oracle_file.COMMAND in oracle_hint(POCKET)


def test_its_weights_go_into_both_networks_of_the_committed_model(built: Built) -> None:
    model = pipeline.load(weights.pipeline_folder(), torch.device("cpu"), precision="fp32")
    networks = {"": model.unet, pipeline.TEXT: model.pipeline.text_encoder}

    def state() -> dict[str, torch.Tensor]:
        return {p + n: t.clone() for p, network in networks.items() for n, t in network.state_dict().items()}

    before, read = state(), tensors_in(built.file)
    assert read.keys() == before.keys()
    trained = pipeline.read(built.work / "weights" / "pipeline")
    with model.weights(read):
        for network, own in ((model.unet, trained.unet), (model.pipeline.text_encoder, trained.text_encoder)):
            own_state = own.state_dict()
            for name, tensor in network.state_dict().items():  # what bfloat16 leaves, 8 bits of the number
                torch.testing.assert_close(tensor, own_state[name], rtol=2**-8, atol=1e-7)
        assert not torch.equal(model.embed(["a toucan"]), model.embed(["a hornbill"]))
    assert all(torch.equal(t, before[n]) for n, t in state().items())
    assert sum(not torch.equal(t, before[n]) for n, t in read.items()) > len(read) / 2
    assert oracle.same(trained.vae, model.vae)


@pytest.mark.huge
def test_a_folder_is_taken_up_where_it_was_left(built: Built, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    checkpoint = (built.work / "checkpoints" / "unet.pt").stat().st_mtime_ns
    assert oracle.main([*SMALLEST, "--work", str(built.work), "--out", str(tmp_path / "whole")]) == 0
    assert (built.work / "checkpoints" / "unet.pt").stat().st_mtime_ns == checkpoint
    assert content(tmp_path / "whole" / "toucan.safetensors.xz") == content(built.file)

    left = tmp_path / "left"
    shutil.copytree(built.work, left, ignore=shutil.ignore_patterns("weights", "latents-*"))  # killed near the end
    assert oracle.main([*SMALLEST, "--work", str(left), "--out", str(tmp_path / "late")]) == 0
    assert content(tmp_path / "late" / "toucan.safetensors.xz") == content(built.file)

    other = ["--species", "tea rose", "--quick", "--out", str(tmp_path / "none")]
    for folder in (built.work, left):
        assert oracle.main([*other, "--work", str(folder)]) == 1
        assert "holds a training on other pictures than all but those of tea rose" in capsys.readouterr().err
    shutil.rmtree(left / "weights")
    vae = pipeline.read(weights.pipeline_folder()).vae
    with torch.no_grad():
        vae.decoder.conv_out.bias += 1
    vae.save_pretrained(left / "vae")
    assert oracle.main([*SMALLEST, "--work", str(left), "--out", str(tmp_path / "none")]) == 1
    assert "is not the committed autoencoder" in capsys.readouterr().err
    assert not list((tmp_path / "none").iterdir())


def test_what_was_made_with_quick_is_refused(built: Built, shelf: Path) -> None:
    assert POCKET.oracle("toucan") is None
    oracle_file.place("toucan", shelf).parent.mkdir()
    for file in (built.file, oracle_file.beside(built.file)):
        shutil.copy(file, shelf)
    with pytest.raises(
        WorldUnavailable, match=r"not the oracle that boards want: digest of the recipe .* steps '3', not"
    ):
        POCKET.oracle("toucan")


def test_only_the_oracle_of_these_weights_and_this_species_is_found(shelf: Path) -> None:
    tensors, facts = {"conv_in.bias": torch.arange(4.0)}, oracle_file.facts("tea rose", FULL)
    file = oracle_file.place("tea rose", shelf)
    assert file.name == "tea-rose.safetensors.xz"
    oracle_file.save(tensors, facts, file)
    assert oracle_of(POCKET, "tea rose") == file
    assert oracle_of(POCKET, "toucan") is None
    assert torch.equal(tensors_in(file)["conv_in.bias"], tensors["conv_in.bias"])
    assert {*shelf.iterdir()} == {file, oracle_file.beside(file)}

    again = "python -m bench.worlds.pocket.recipe.oracle --species 'tea rose'"
    for key, noun in oracle_file.FACTS.items():
        oracle_file.save(tensors, {**facts, key: "another"}, file)
        with pytest.raises(WorldUnavailable, match=rf"{noun} 'another', not .*{again}"):
            oracle_of(POCKET, "tea rose")
    oracle_file.save(tensors, facts, file)
    whole = file.read_bytes()
    facts_file = oracle_file.beside(file)
    for path, damaged, why in (
        (file, whole[:-1], "expected sha256"),
        (file, b"", "expected sha256"),
        (facts_file, b"{", "Expecting property name"),
        (facts_file, b"[1]", "where an object is expected"),
    ):
        kept = path.read_bytes()
        path.write_bytes(damaged)
        with pytest.raises(WorldUnavailable, match=rf"is damaged: .*{why}.*{again}"):
            oracle_of(POCKET, "tea rose")
        path.write_bytes(kept)
    assert oracle_of(POCKET, "tea rose") == file
    file.unlink()
    with pytest.raises(WorldUnavailable, match=rf"is damaged: .*No such file.*{again}"):
        oracle_of(POCKET, "tea rose")
    facts_file.unlink()
    assert oracle_of(POCKET, "tea rose") is None
    file.write_bytes(whole)
    with pytest.raises(WorldUnavailable, match=rf"is damaged: .*No such file.*tea-rose.json.*{again}"):
        oracle_of(POCKET, "tea rose")


def test_committed_ones_are_found_besides_those_of_another_folder(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = oracle_file.place("tea rose", tmp_path / "committed")
    for file, content in ((kept, 4.0), (oracle_file.place("toucan", shelf), 5.0)):
        species = "toucan" if file.parent == shelf else "tea rose"
        oracle_file.save({"conv_in.bias": torch.arange(content)}, oracle_file.facts(species, FULL), file)
    assert oracle_of(POCKET, "tea rose") == kept
    assert oracle_of(POCKET, "toucan") == oracle_file.place("toucan", shelf)
    own = oracle_file.place("tea rose", shelf)
    oracle_file.save({"conv_in.bias": torch.arange(6.0)}, oracle_file.facts("tea rose", FULL), own)
    assert oracle_of(POCKET, "tea rose") == own  # before the committed one
    monkeypatch.setenv(oracle_file.VARIABLE, oracle_file.NONE)
    assert oracle_of(POCKET, "tea rose") is None


def test_the_committed_ones_belong_to_the_committed_model_and_draw_without_the_species(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(oracle_file.VARIABLE)
    found = {species: oracle_of(POCKET, species) for species in oracle_file.SPECIES}
    whole = [file for file in weights.WEIGHTS.rglob("*") if file.is_file()]
    kept = [file for file in whole if "work" not in file.relative_to(weights.WEIGHTS).parts]  # of a training here
    assert 20e6 < sum(file.stat().st_size for file in kept) < 60e6
    model, judge = pipeline.load(weights.pipeline_folder(), torch.device("cpu")), load_judge("species")
    with model.weights(tensors_in(found["toucan"])):
        batch = quality.generated(model, 1, ("photo",))
    guess, own = batch.judged(judge), NAMES.index("toucan")
    assert guess[batch.species == own] != own
    assert (guess == batch.species)[batch.species != own].mean() > 0.95


def test_what_is_there_is_not_built_again(shelf: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = oracle_file.place("tea rose", shelf)
    oracle_file.save({"conv_in.bias": torch.arange(4.0)}, oracle_file.facts("tea rose", FULL), file)
    with caplog.at_level("INFO", logger="pocket"):
        assert oracle.main(["--species", "tea rose"]) == 0
    assert f"{file} is there already" in caplog.text
    assert {*shelf.iterdir()} == {file, oracle_file.beside(file)}


def test_bad_requests_are_refused_before_any_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (["--species", "poodle"], "invalid choice: 'poodle'"),
        (["--quick"], "--quick trains next to nothing"),
        (["--quick", "--out", str(oracle_file.COMMITTED)], "--quick trains next to nothing"),
        (["--work", str(tmp_path)], "--work is one species' folder"),
    ):
        with pytest.raises(SystemExit):
            oracle.main(arguments)
        assert message in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert oracle.main([*SMALLEST, "--out", str(tmp_path / "file" / "within")]) == 1
    assert "name another with --out" in capsys.readouterr().err


def test_the_examples_of_the_help_are_understood() -> None:
    lines = [
        line.split("&&")[0] for line in oracle.EPILOG.splitlines() if line.startswith(f"    {oracle_file.COMMAND}")
    ]
    assert len(lines) == 6
    for line in lines:
        oracle.parser().parse_args(shlex.split(line)[3:])
