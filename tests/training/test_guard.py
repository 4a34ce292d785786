"""What a method leaves behind: it fails by name, and everything is as before for the next one."""

from contextlib import suppress
from pathlib import Path

import pytest
import torch
import torch._dynamo
import torch._inductor.config
from hypothesis import given, settings
from hypothesis import strategies as st
from support import leaks, plugin_files, workplace

from bench.backbones import pipeline
from bench.cells.executor import Executor
from bench.core.config import RunConfig
from bench.plan import plugins
from bench.plan.plan import resolve
from bench.training.guard.settings import SWITCHES
from bench.training.guard.watch import LeftBehind, Watch, watched
from bench.worlds import World

PLUGIN = """
from methods import METHODS
from methods.base import Method

STATE = []

@METHODS.register("leaky")
class Leaky(Method):
    about, source, fidelity = "leaves a mess", "a test", "published"
    def edit(self, harness):
        STATE.append(1)
        forward = harness.unet.forward
        harness.unet.forward = lambda *a, **k: tuple(0 * one for one in forward(*a, **k))

@METHODS.register("seen")
class Seen(Method):
    about, source, fidelity = "depends on what ran before", "a test", "published"
    def edit(self, harness):
        import torch
        for parameter in harness.trained.values():
            parameter.data.add_(1e-3 * torch.randn(parameter.shape) + len(STATE))
"""


class Networks:
    """The networks of the tiny world, loaded anew where they could not be put back."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world, self.folder = world, folder
        self.reload()

    def reload(self) -> None:
        self.model = pipeline.load(self.folder, torch.device("cpu"), "fp32")

    def hold(self, name: str) -> str:
        """The message of a method that leaves what `leaks.LEAKS` calls so. What it left must be gone afterwards."""
        harness, lost = workplace.harnesses(self.world, self.model)(0), []
        leak, _ = leaks.LEAKS[name]
        watch = Watch("method 'x'", self.model, {"task": harness.task})
        with (
            pytest.raises(LeftBehind) as caught,
            watched(watch, lambda text: None, lambda: lost.append(name)),
            harness.trainable(lambda parameter: ".attn2." in parameter),
        ):
            leak(harness)
        failing, _, whole = watch.restore()
        if lost:
            self.reload()
        assert whole == (not lost)
        assert lost or not failing
        return str(caught.value)


@pytest.fixture(scope="module")
def networks(world: World, pipeline_folder: Path) -> Networks:
    return Networks(world, pipeline_folder)


@settings(max_examples=12)
@given(name=st.sampled_from(sorted(set(leaks.LEAKS) - {"thread"})))
def test_a_leak_fails_by_name_and_is_put_back(networks: Networks, name: str) -> None:
    message = networks.hold(name)
    assert message.startswith("method 'x' left ")
    assert leaks.LEAKS[name][1] in message


@pytest.mark.slow
@pytest.mark.parametrize("name", leaks.LEAKS)
def test_every_leak_fails_by_name_and_is_put_back(networks: Networks, name: str) -> None:
    assert leaks.LEAKS[name][1] in networks.hold(name)


def test_an_exception_of_the_method_is_kept_and_its_leak_is_put_back(networks: Networks) -> None:
    def leak_and_fail() -> None:
        with watched(Watch("x", networks.model), lambda text: None, lambda: None):
            networks.model.unet.forward = leaks.nothing
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        leak_and_fail()
    assert "forward" not in vars(networks.model.unet)


def test_images_of_other_methods_do_not_show_what_this_one_changed(networks: Networks) -> None:
    model = networks.model
    watch = Watch("method 'x'", model)
    with suppress(LeftBehind), watched(watch, lambda text: None, lambda: None):
        model.unet.forward = leaks.nothing
        torch.set_default_dtype(torch.float64)
        with watch.suspended():
            assert "forward" not in vars(model.unet)
            assert torch.get_default_dtype() is torch.float32
        assert model.unet.forward is leaks.nothing
        assert torch.get_default_dtype() is torch.float64
    assert torch.get_default_dtype() is torch.float32


def test_switches_have_distinct_names() -> None:
    assert len({switch.name for switch in SWITCHES}) == len(SWITCHES)


def test_settings_of_torch_compile_are_those_of_the_run_for_every_method() -> None:
    before = torch._dynamo.config.get_config_copy(), torch._inductor.config.get_config_copy()
    said = list[str]()
    with watched(Watch("method 'x'", None), said.append, lambda: said.append("lost")):
        torch._dynamo.config.suppress_errors = True
        torch._inductor.config.epilogue_fusion = False
    assert (torch._dynamo.config.get_config_copy(), torch._inductor.config.get_config_copy()) == before
    assert not said


@pytest.fixture
def plugin(tmp_path: Path, plugged: None) -> None:
    plugins.load([plugin_files.save(tmp_path / "plugins", PLUGIN, "leaky.py")])


def run(out: Path, *methods: str) -> dict[str, tuple[str, object, object]]:
    """Method -> status, reason, and figures of its cell."""
    protocol = {"num_inference_steps": "2", "images_per_concept": "1", "forget_images": "2"}
    plan = resolve(
        RunConfig(methods, "smoke", "tiny", metrics=("ua", "drift"), out=out, overrides={"protocol": protocol})
    )
    executor = Executor(plan)
    results = [executor.run(cell) for cell in plan.cells]
    return {one.method: (one.status, one.reason, one.scores) for one in results if one.method in methods}


def test_the_next_method_measures_what_it_does_alone(world: World, plugin: None, tmp_path: Path) -> None:
    found = run(tmp_path / "after", "leaky", "seen")
    assert found["leaky"] == ("failed", "LeftBehind: method 'leaky' left unet.forward replaced", {})
    assert found["seen"] == run(tmp_path / "alone", "seen")["seen"]
    assert found["seen"][0] == "ok"


def test_a_method_that_exits_fails_its_own_cell(world: World, tmp_path: Path, plugged: None) -> None:
    text = PLUGIN.replace("        STATE.append(1)\n", "        raise SystemExit(0)\n")
    plugins.load([plugin_files.save(tmp_path / "plugins", text, "exiting.py")])
    assert run(tmp_path / "out", "leaky")["leaky"] == ("failed", "SystemExit: 0", {})


def test_a_plugin_that_patches_a_library_when_it_is_loaded_is_refused(tmp_path: Path, plugged: None) -> None:
    text = f"import torch\ntorch.nn.functional.gelu = torch.nn.functional.relu\n{PLUGIN}"
    with pytest.raises(plugins.PluginError, match=r"left torch\.nn\.functional\.gelu replaced"):
        plugins.load([plugin_files.save(tmp_path, text, "patching.py")])
    assert torch.nn.functional.gelu is not torch.nn.functional.relu
