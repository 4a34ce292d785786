"""Methods that act while sampling, through the command line and the store: keys, sequences, more training, plug-ins."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from diffusers import StableDiffusionPipeline
from support import plugin_files

from bench.backbones.sampler import sample
from bench.cells import estimate
from bench.cells.executor import Executor
from bench.commands import export, main
from bench.core.config import RunConfig
from bench.plan.plan import Cell, resolve
from bench.training import attachment
from bench.worlds import World

NAMES = ("negative-prompt", "sld", "safree")
SMALL = {
    "images_per_concept": "2", "num_inference_steps": "2", "forget_images": "2", "retain_images": "1",
    "finetune_steps": "1", "finetune_pictures": "2", "finetune_batch": "2", "probe_timesteps": "2",
    "reference_per_concept": "2", "precision": "fp32", "curve_images": "1",
}  # fmt: skip
SETTINGS = [f"protocol.{name}={value}" for name, value in SMALL.items()]


def executor(
    out: Path, *methods: str, suite: str = "smoke", metrics: tuple[str, ...] = ("ua",), **more: Any
) -> Executor:
    given = {"overrides": {"protocol": SMALL}, "metrics": metrics, "out": out, **more}
    return Executor(resolve(RunConfig(methods, suite, "tiny", **given)))


def cells(run: Executor, method: str) -> list[Cell]:
    return [cell for cell in run.plan.cells if cell.method == method]


@pytest.fixture(scope="module")
def finished(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A board of the three methods, by the command line."""
    out = tmp_path_factory.mktemp("board")
    line = ["--world", "tiny", "--suite", "smoke", "--methods", *NAMES, "--metrics", "drift", "--curve", "2"]
    assert main.main([*line, "--workers", "1", "--out", str(out), "--set", *SETTINGS]) == 0
    return out


@pytest.fixture
def held(finished: Path) -> Executor:
    return executor(finished, *NAMES, metrics=("drift",), curve=2)


def test_board_has_a_row_for_each_method(finished: Path) -> None:
    (file,) = (f for f in finished.glob("*.csv") if not f.stem.endswith(("-cells", "-concepts", "-curve")))
    board = pd.read_csv(file).set_index("method")
    assert board.loc[[*NAMES], "status"].eq("ok").all()
    assert board.loc[[*NAMES], "seconds"].eq(0).all()
    assert board.loc[[*NAMES], "delta_bytes"].eq(0).all()
    assert board.loc[[*NAMES], "drift"].gt(0).all()


def test_results_have_no_warning_and_no_curve(held: Executor) -> None:
    for cell in held.plan.cells:
        result = held.run(cell)  # from the store
        assert result.ok
        if cell.method in NAMES:
            assert result.warnings == ()
            assert result.curve == ()
            assert result.compensation == "none"


def test_models_without_tensors_do_not_share_images(held: Executor) -> None:
    entries = [held.artifacts.weights(cell) for cell in held.plan.cells]
    by_method = {cell.method: entry for cell, entry in zip(held.plan.cells, entries, strict=True)}
    acting = [by_method[name] for name in NAMES]
    assert {entry.content for entry in acting} == {by_method["pretrained"].content} == {""}
    assert attachment.FACT not in by_method["pretrained"].facts
    keys = [json.dumps(held.artifacts.images.key(entry)) for entry in (*acting, by_method["pretrained"])]
    assert len({*keys}) == 4
    assert json.dumps(held.artifacts.images.key(None)) == keys[-1]
    images = [held.artifacts.images(entry) for entry in acting]
    probes = [json.dumps(held.artifacts.probes.key(entry, images[0], held.plan.tasks[0])) for entry in acting]
    scores = [json.dumps(held.outcomes.score_key(cell, acting[0], "drift")) for cell in held.plan.cells[:1]]
    scores += [json.dumps(held.outcomes.score_key(held.plan.cells[0], entry, "drift")) for entry in acting[1:]]
    assert len({*probes}) == len({*scores}) == 3


def test_identity_depends_on_settings_concepts_and_version(held: Executor) -> None:
    entry = held.artifacts.weights(cells(held, "sld")[0])
    fact = entry.facts[attachment.FACT]
    assert (fact["method"], fact["version"], fact["concepts"]) == ("sld", 1, ["golden retriever"])
    found = {attachment.identity(entry)}
    others = {"version": 2, "concepts": ["poodle"], "config": {**fact["config"], "strength": "weak"}, "method": "x"}
    for name, value in others.items():
        changed = dataclasses.replace(entry, facts={attachment.FACT: {**fact, name: value}})
        found.add(attachment.identity(changed))
    assert len(found) == 5
    assert attachment.identity(dataclasses.replace(entry, facts={}, content="abc")) == "abc"


def test_information_is_that_of_the_untouched_network(held: Executor) -> None:
    """At the same images, the probe of a model whose guidance alone is changed has the untouched model's values."""
    weights, task = held.artifacts.weights(cells(held, "sld")[0]), held.plan.tasks[0]
    images = held.artifacts.images(weights)
    untouched = held.artifacts.weights(cells(held, "pretrained")[0])
    acting, plain = (held.artifacts.probes.compute(entry, images, task)[0] for entry in (weights, untouched))
    assert torch.equal(acting["gaps"], plain["gaps"])


def test_estimate_counts_the_forward_passes(held: Executor, tmp_path: Path) -> None:
    fresh = executor(tmp_path, *NAMES)
    ahead = {a.cell.method: a for a in estimate.ahead(fresh.outcomes, estimate.Past(fresh.outcomes, ()))}
    draws = len(fresh.context.specs)
    assert {name: ahead[name].draws for name in NAMES} == dict.fromkeys(NAMES, draws)  # no image to learn from
    assert {name: ahead[name].effort / draws for name in NAMES} == {"negative-prompt": 1, "sld": 1.5, "safree": 1}
    assert {ahead[name].seconds for name in NAMES} == {0.0}
    facts = {c.method: held.artifacts.images(held.artifacts.weights(c)).facts for c in held.plan.cells}
    assert {name: facts[name].get("passes") for name in NAMES} == {"negative-prompt": None, "sld": 3, "safree": None}


@pytest.mark.parametrize("name", NAMES)
def test_export_writes_the_untouched_model_with_settings_and_words(
    finished: Path, pipeline_folder: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "made"
    line = ["export", f"{name}/golden retriever", "--to", str(to), "--world", "tiny", "--suite", "smoke", "--metrics"]
    assert main.main([*line, "drift", "--curve", "2", "--out", str(finished), "--set", *SETTINGS]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"{name} acts while images are sampled" in said
    told = json.loads((to / export.NOTE).read_text())["attached"]
    assert told["concepts"] == ["golden retriever"]
    assert ("diffusers can't do this" in said) == bool(told["lacking"]) == (name == "safree")
    assert ("StableDiffusionPipeline" in said) == bool(told["diffusers"]) == (name != "safree")
    made, before = (StableDiffusionPipeline.from_pretrained(f, safety_checker=None) for f in (to, pipeline_folder))
    assert all(torch.equal(t, before.unet.state_dict()[n]) for n, t in made.unet.state_dict().items())


def test_every_concept_of_a_sequence_is_attached(world: World, tmp_path: Path) -> None:
    run = executor(tmp_path, "sld", suite="sequential", forget=world.concepts[:2])
    words = [run.artifacts.weights(cell).facts[attachment.FACT]["concepts"] for cell in cells(run, "sld")]
    assert words == [[*world.concepts[:1]], [*world.concepts[:2]]]


def test_model_that_is_trained_further_keeps_its_attachment(world: World, tmp_path: Path) -> None:
    run = executor(tmp_path, "negative-prompt", suite="resurgence", forget=world.concepts[:1])
    cell = cells(run, "negative-prompt")[0]
    assert cell.task.finetune
    result = run.run(cell)
    assert result.ok, result.reason
    weights = run.artifacts.weights.stored(cell)
    assert weights
    assert weights.content
    assert weights.facts[attachment.FACT]["concepts"] == [world.bare_name(world.concepts[0])]
    assert weights.facts["cost"]["seconds"] == 0


ADAPTER = """
import torch
from contextlib import contextmanager
from methods import METHODS
from methods.base import Method, MethodConfig

@METHODS.register("adapter")
class Adapter(Method):
    about, source, fidelity = "trains a shift of the output beside the network", "a test", "reconstruction"
    resumable = False

    def prepare(self, harness):
        self.shift = torch.zeros(4, device=harness.device)

    def loss(self, harness, batch):
        z, noise, t = harness.noised(batch.latents)
        return (harness.student(z, t, batch.prompt_embeds) - noise).square().mean()

    def after_step(self, harness):
        self.shift += 0.5

    def tensors_to_attach(self, harness):
        return {"shift": self.shift}

    @contextmanager
    def attach(self, backbone, concepts, tensors):
        shift = tensors["shift"].to(backbone.device).view(1, -1, 1, 1)
        hook = backbone.unet.register_forward_hook(lambda unet, given, out: (out[0] + shift, *out[1:]))
        yield
        hook.remove()
"""


@pytest.fixture
def adapter(world: World, plugged: None, tmp_path: Path) -> Executor:
    file = plugin_files.save(tmp_path / "plugin", ADAPTER, "adapter.py")
    own = {"protocol": SMALL, "adapter": {"epochs": "2", "lr": "1e-3", "batch_size": "2"}}
    return executor(tmp_path / "out", "adapter", plugins=(file,), overrides=own, curve=2)


def test_tensors_that_a_method_attaches_are_stored_and_used(adapter: Executor, tmp_path: Path) -> None:
    cell, artifacts = cells(adapter, "adapter")[0], adapter.artifacts
    weights = artifacts.weights(cell)
    network, attached = attachment.split(weights.tensors())
    assert attached["shift"].tolist() == [1.0] * 4  # two steps
    assert network
    (between,) = artifacts.weights.snapshots(cell)
    assert attachment.split(between.tensors())[1]["shift"].tolist() == [0.5] * 4
    assert artifacts.images.key(between) != artifacts.images.key(weights)
    result = adapter.run(cell)
    assert result.ok, result.reason
    assert result.curve
    assert len(result.curve) == 3

    model, plan, specs = adapter.context.backbone, adapter.plan, adapter.context.specs[:2]
    with model.weights({**network, "conv_out.bias": network.get("conv_out.bias", model.unet.conv_out.bias) + 1.0}):
        expected = sample(model, specs, plan.protocol, plan.protocol.evaluation_seed, 2, as_images=False)
    found = artifacts.images(weights).tensors()["latents"][:2]
    assert torch.allclose(found, expected, atol=1e-4)

    export.export(plan, cell.name.replace(" · ", "/").replace("seed ", ""), tmp_path / "made")
    assert (tmp_path / "made" / export.ATTACHED).is_file()


CARELESS = """
from contextlib import contextmanager, nullcontext
from methods import METHODS
from methods.base import Guidance, Method

class Other(Guidance):
    pass

@METHODS.register("hooked")
class Hooked(Method):
    about, source, fidelity = "leaves a hook", "a test", "reconstruction"

    def attach(self, backbone, concepts, tensors):
        backbone.unet.register_forward_hook(lambda unet, given, out: out)
        return nullcontext()

@METHODS.register("guiding")
class Guiding(Method):
    about, source, fidelity = "leaves a guidance", "a test", "reconstruction"

    def attach(self, backbone, concepts, tensors):
        backbone.guidance = Other()
        return nullcontext()

@METHODS.register("plain")
class Plain(Method):
    about, source, fidelity = "forgets that attach is a context manager", "a test", "reconstruction"

    def attach(self, backbone, concepts, tensors):
        yield
"""


@pytest.fixture
def careless(world: World, plugged: None, tmp_path: Path) -> Executor:
    file = plugin_files.save(tmp_path / "plugin", CARELESS, "careless.py")
    return executor(tmp_path / "out", "hooked", "guiding", "plain", plugins=(file,))


def test_what_attach_leaves_behind_fails_the_cell_and_is_put_back(careless: Executor) -> None:
    reasons = {"hooked": "left a hook in unet", "guiding": "left backbone.guidance", "plain": "a context manager"}
    for name, reason in reasons.items():
        result = careless.run(cells(careless, name)[0])
        assert result.status == "failed"
        assert reason in result.reason
    assert not careless.context.backbone.unet._forward_hooks
    assert careless.run(cells(careless, "pretrained")[0]).ok


READER = """
from contextlib import nullcontext
from pathlib import Path
from methods import METHODS
from methods.base import Guidance, Method

WORDS = Path(__file__).with_name("words.txt")

class Null(Guidance):
    def start(self, prompts, predict, embed, scale, timesteps):
        return super().start(["a dog"] * len(prompts), predict, embed, scale, timesteps)

@METHODS.register("reader")
class Reader(Method):
    about, source, fidelity = "reads words", "a test", "reconstruction"
    files = (WORDS,)

    def attach(self, backbone, concepts, tensors):
        WORDS.read_text()
        return backbone.guided_by(Null())
"""


def test_files_that_an_acting_method_reads_are_part_of_the_keys(world: World, plugged: None, tmp_path: Path) -> None:
    file = plugin_files.save(tmp_path / "plugin", READER, "reader.py")
    keys = []
    for words in ("one", "two!"):
        (file.parent / "words.txt").write_text(words)
        run = executor(tmp_path / "out", "reader", plugins=(file,))
        keys.append(run.artifacts.images.key(run.artifacts.weights(cells(run, "reader")[0])))
    assert keys[0] != keys[1]


def test_file_that_an_acting_method_reads_without_declaring_it_is_warned_of(
    world: World, plugged: None, tmp_path: Path
) -> None:
    file = plugin_files.save(tmp_path / "plugin", READER.replace("files = (WORDS,)", "files = ()"), "reader.py")
    (file.parent / "words.txt").write_text("one")
    run = executor(tmp_path / "out", "reader", plugins=(file,))
    (warning,) = run.artifacts.weights(cells(run, "reader")[0]).facts["warnings"]
    assert "words.txt" in warning
