"""Mistakes in plug-ins are found when they are loaded, and each message names what would be right."""

import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from textwrap import indent

import pytest
from support.tiny import variant

from bench.cells import evidence
from bench.commands import main
from bench.core import registry
from bench.core.config import RunConfig
from bench.core.registry import Registry
from bench.plan import plugins
from bench.plan.plan import resolve
from bench.suites import SUITES
from bench.worlds import WORLDS, World
from methods import METHODS, Method
from metrics import METRICS, Metric
from metrics.base import NEEDS

pytestmark = pytest.mark.usefixtures("plugged")

HEAD = """
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from bench.suites import SUITES
from bench.worlds import WORLDS, World
from bench.worlds.pocket.world import Pocket
from methods import METHODS, Method
from methods.base import MethodConfig
from metrics import METRICS, Metric
from metrics.ua import UA
"""
METHOD = """
@dataclass(frozen=True)
class Settings(MethodConfig):
{fields}

@METHODS.register("mine")
class Mine(Method):
    about, source, fidelity = "moves", "a test", "control"
    Config = Settings
{attributes}
"""


def method(fields: str = "pass", attributes: str = "") -> str:
    return HEAD + METHOD.format(fields=indent(fields, "    "), attributes=indent(attributes, "    "))


def metric(changes: str, name: str = "mine") -> str:
    return HEAD + f"METRICS.add({name!r}, replace(UA, **{{'name': {name!r}, **{changes}}}))\n"


def world(attributes: str) -> str:
    body = indent(f"name = 'mine'\n{attributes}", "    ")
    return HEAD + f"class Mine(Pocket):\n{body}\nWORLDS.add('mine', Mine())\n"


def suite(changes: str) -> str:
    return HEAD + f"SUITES.add('mine', replace(SUITES.get('smoke'), **{{'name': 'mine', **{changes}}}))\n"


SETTABLE = (
    "which --set can't set; use bool, int, float, str, Path, a Literal, a tuple of these, or one of these or None"
)
CONFIG = "method 'mine' (class Mine): Config (Settings)"
MISTAKES = [
    (method(attributes="about = ''"), "method 'mine' (class Mine) does not say its about"),
    (method(attributes="source = 3"), "method 'mine' (class Mine) does not say its source"),
    (method(attributes="del fidelity"), "method 'mine' (class Mine) does not say its fidelity"),
    (
        method(attributes="fidelity = 'exact'"),
        "fidelity is 'exact'; it must be one of published, reconstruction, control",
    ),
    (method(attributes="multi = 'together'"), "multi is 'together'; it must be one of joint, alternate, closed_form"),
    (method(attributes="tags = 'inference'"), "tags has 'inference'; it must be a tuple of names among closed-form"),
    (method(attributes="tags = ('fast',)"), "tags has 'fast'; it must be a tuple of names among closed-form"),
    (method(attributes="Config = None"), "Config is None; it must be a subclass of methods.base.MethodConfig"),
    (method(attributes="Config = dict"), "must be a subclass of methods.base.MethodConfig"),
    (method().replace('"mine"', '"all"'), "the name 'all' has another meaning on the command line"),
    (method().replace('"mine"', '"protocol"'), "the name 'protocol' has another meaning on the command line"),
    (method().replace('"mine"', '"my.own"'), "method 'my.own': a name begins with a letter or digit"),
    (method().replace("@dataclass(frozen=True)\n", ""), f"{CONFIG} is no dataclass of its own"),
    (method().replace("frozen=True", ""), "cannot inherit non-frozen dataclass from a frozen one"),
    (
        method("layers: list[int] = field(default_factory=list)"),
        f"field 'layers' has the annotation list[int], {SETTABLE}",
    ),
    (method("scales: dict[str, float] = field(default_factory=dict)"), f"the annotation dict[str, float], {SETTABLE}"),
    (method("scale: int | str = 1"), f"field 'scale' has the annotation int | str, {SETTABLE}"),
    (method("scale: Any = 1"), f"field 'scale' has the annotation Any, {SETTABLE}"),
    (method("scale: complex = 1j"), f"field 'scale' has the annotation complex, {SETTABLE}"),
    (
        method("scale: Sequence[int] = ()"),
        f"field 'scale' has the annotation collections.abc.Sequence[int], {SETTABLE}",
    ),
    (
        method("scales: tuple[list[int], ...] = ()"),
        f"field 'scales' has the annotation tuple[list[int], ...], {SETTABLE}",
    ),
    (method("scale: 'Nowhere' = 1"), "its annotations can't be read (NameError: name 'Nowhere' is not defined)"),
    (method("_: object = field(kw_only=True)").replace("_: object", "scale: float"), "'scale' has no default"),
    (method("scale: float = field(default=1.0, init=False)"), "'scale' has init=False"),
    (
        method("scales: tuple[int, ...] = field(default_factory=list)"),
        "hashable, and its fields scales are not",
    ),
    (method("scale: float = math.inf"), f"{CONFIG} refuses its own defaults: scale must be a finite number, not inf"),
    (method("scales: tuple[float, ...] = (1.0, math.nan)"), "scales must be a finite number, not nan"),
    (method("epochs: int | None = None"), "refuses its own defaults: training takes either epochs or steps"),
    (HEAD + "METHODS.add('mine', 3)", "method 'mine' is no Method but 3"),
    (HEAD + "METHODS.add('mine', MethodConfig)", "must be a subclass of methods.base.Method"),
    (metric("{'name': 'other'}"), "metric 'mine' has the name 'other': register it as 'other', or give it name='mine'"),
    (
        metric("{'needs': ('probes',)}"),
        "metric 'mine' needs 'probes'; needs is a tuple of names among domain_reference, pretrained",
    ),
    (metric("{'needs': 'probe'}"), "metric 'mine' needs 'probe'; needs is a tuple of names among"),
    (metric("{'compute': 3}"), "metric 'mine': compute is 3; it must be a function of the evidence"),
    (metric("{'each': 3}"), "metric 'mine': each is 3; it must be a function of the evidence"),
    (metric("{}", "no spaces"), "metric 'no spaces': a name begins with a letter or digit"),
    (metric("{}", "seconds"), "metric 'seconds' collides with the column 'seconds' of the table of methods: choose"),
    (HEAD + "METRICS.add('mine', Metric)", "must be an instance of metrics.Metric"),
    (HEAD + "WORLDS.add('mine', 3)", "world 'mine' is no World but 3: it must be an instance of bench.worlds.World"),
    (HEAD + "WORLDS.add('mine', WORLDS.get('pocket'))", "world 'mine' has the name 'pocket': register it as 'pocket'"),
    (
        world("other_distances = {'n': min}"),
        "world 'mine' measures a distance 'n'",
    ),
    (
        HEAD + "WORLDS.add('mine', Pocket)",
        "world 'mine' is the class Pocket: register an instance, Pocket()",
    ),
    (
        HEAD + "class Mine(World):\n    def backbone(self): ...\n    def reference(self, concept, count): ...\n"
        "WORLDS.add('mine', Mine)",
        "world 'mine' is the class Mine: define closeness, judge, prompts in it, then register an instance, Mine()",
    ),
    (
        HEAD + "class Mine(World):\n    def backbone(self): ...\nWORLDS.add('mine', Mine())",
        "Can't instantiate abstract class Mine with abstract methods closeness, judge, prompts, reference",
    ),
    (world("about = ''"), "world 'mine' (class Mine) does not say its about"),
    (world("domains = {}"), "domains is {}; it must be a dict with at least one domain"),
    (world("domains = {'dog': 'poodle'}"), "domains is {'dog': 'poodle'}; it must be a dict with at least one domain"),
    (world("domains = {'dog': ()}"), "to a tuple of concepts: {'dog': ('poodle', 'beagle')}"),
    (world("styles = 'photo'"), "styles is 'photo'; it must be a tuple of texts, of which the first is the plain"),
    (world("styles = ['photo']"), "styles is ['photo']; it must be a tuple of texts"),
    (world("domains = {'dog': ('pug',), 'pet': ('pug',)}"), "has two concepts or styles 'pug'; each must have"),
    (world("domains = {'dog': ('photo',)}"), "has two concepts or styles 'photo'"),
    (world("protocol = {'images_per_concept': 3}"), "protocol is {'images_per_concept': 3}; it must be a bench.core"),
    (world("tuning_concepts = ('pug',)"), "tuning_concepts has 'pug'; it must be a tuple of concepts in domains"),
    (world("tuning_concepts = 'poodle'"), "tuning_concepts has 'poodle'; it must be a tuple of concepts in domains"),
    (world("extra_concepts = ('nowhere',)"), "extra_concepts has 'nowhere'"),
    (
        HEAD + "SUITES.add('mine', 3)",
        "suite 'mine' is no Suite but 3: it must be an instance of bench.suites.Suite",
    ),
    (HEAD + "SUITES.add('mine', SUITES.get('smoke'))", "suite 'mine' has the name 'smoke': register it as 'smoke'"),
    (suite("{'about': ''}"), "suite 'mine': about is ''; it must be a text that is not empty"),
    (suite("{'source': None}"), "suite 'mine': source is None; it must be a text that is not empty"),
    (suite("{'choose': ()}"), "suite 'mine': choose is (); it must be a function of the world"),
    (suite("{'choose_requested': 3}"), "choose_requested is 3; it must be a function of the world and the request, or"),
    (suite("{'all_styles': 'no'}"), "suite 'mine': all_styles is 'no'; it must be True or False"),
    (suite("{'takes_counts': True}"), "suite 'mine': takes_counts is True, but choose_requested is None"),
    (suite("{'curve': 2.5}"), "suite 'mine': curve is 2.5; it must be a whole number of checkpoints, or 0"),
    (suite("{'curve': 2, 'curve_reason': 3}"), "suite 'mine': curve_reason is 3; it must be a text"),
    (suite("{'protocol': ('precision',)}"), "protocol is ('precision',); it must map fields of Protocol to values"),
    (
        suite("{'protocol': {'images_per_concpt': 3}}"),
        "suite 'mine': protocol has no field 'images_per_concpt': did you mean 'images_per_concept'",
    ),
    (suite("{'protocol': {'curve_images': 'many'}}"), "suite 'mine': protocol.curve_images takes int, not 'many'"),
    (suite("{'training': {'eta': 1}}"), "suite 'mine': training has no field 'eta'"),
    (suite("{'training': {'lr': math.nan}}"), "suite 'mine': training.lr must be a finite number, not nan"),
    (suite("{'variants': [1]}"), "variants is [1]; it must map names of methods to sequences of settings"),
    (
        suite("{'variants': {'mimu': ()}}"),
        "suite 'mine': variants['mimu']: no method has this name; did you mean 'mimmu'",
    ),
    (
        suite("{'variants': {'mimmu': 3}}"),
        "variants['mimmu'] is 3; it must be a sequence of settings, one for each row",
    ),
    (
        suite("{'variants': {'mimmu': ({}, {'t_mx': 300})}}"),
        "suite 'mine': variants['mimmu'][1] has no field 't_mx': did you mean 't_max'",
    ),
    (suite("{'variants': {'mimmu': ({'t_max': 'all'},)}}"), "variants['mimmu'][0].t_max takes int, not 'all'"),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES)
def test_a_mistake_in_a_plugin_is_found_when_it_is_loaded(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(text)
    assert main.main(["plan", "--methods", "mimmu", "--plugin", str(file), "--out", str(tmp_path)]) == 2
    told = capsys.readouterr().out
    assert told.startswith(f"error: plugin {file}")
    assert message in told
    assert not (tmp_path / ".store").exists()


def test_a_plugin_with_choices_and_paths_is_accepted_and_its_settings_are_read(world: World, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    fields = "form: Literal['soft', 'hard'] = 'soft'\nfile: Path | None = None\nsizes: tuple[int, ...] = (1, 2)"
    file.write_text(method(fields))
    read = tmp_path / "read.txt"  # a path among the settings is a file that the method reads, so it must exist
    read.touch()
    given = {"form": "hard", "file": str(read), "sizes": "(3,)"}
    run = RunConfig(("mine",), "smoke", "tiny", plugins=(file,), overrides={"mine": given}, out=tmp_path)
    config = resolve(run).cells[-1].config
    assert (config.form, config.file, config.sizes) == ("hard", read, (3,))  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"^mine\.form takes one of soft, hard, not 'sharp'$"):
        resolve(RunConfig(("mine",), "smoke", "tiny", plugins=(file,), overrides={"mine": {"form": "sharp"}}))


def test_what_comes_with_lethe_passes_the_checks(world: World) -> None:
    found = {
        registry.noun: [plugins.checked(registry, name) for name in registry.names()] for registry in plugins.CHECKS
    }
    assert all(found.values())
    assert set(NEEDS) == set(evidence.OPTIONAL)


def test_an_entry_that_a_program_registers_is_checked_before_anything_is_computed(world: World, tmp_path: Path) -> None:
    METHODS.add("mine", type("Mine", (Method,), {"about": "moves"}))
    METRICS.add("m", plugins.METRICS.get("ua"))
    with pytest.raises(plugins.PluginError, match=r"method 'mine' \(class Mine\) does not say its source, fidelity"):
        resolve(RunConfig(("mine",), "smoke", "tiny", metrics=("ua",), out=tmp_path))
    for metrics in (("all",), ("m",)):
        with pytest.raises(plugins.PluginError, match="metric 'm' has the name 'ua'"):
            resolve(RunConfig(("mimmu",), "smoke", "tiny", metrics=metrics, out=tmp_path))


@pytest.mark.parametrize("judge", ["n", "lo"])
def test_a_judge_whose_column_has_another_meaning_is_refused(judge: str, world: World, tmp_path: Path) -> None:
    WORLDS.add("judged", variant(world, name="judged", judge_of=lambda concept: judge))
    with pytest.raises(ValueError, match=f"world 'judged' has a judge called '{judge}'"):
        resolve(RunConfig(("mimmu",), "smoke", "judged", out=tmp_path))


class Package:
    """A distribution as `importlib.metadata` has it."""

    name, version = "theirs", "1.2"


THEIRS = """
from dataclasses import replace
from methods.mimmu import MimMu
from metrics.ua import UA

class Good(MimMu):
    about, source, fidelity = "moves", "a test", "control"

class Bad(MimMu):
    about, source, fidelity = "moves", "a test", "exact"

good, bad = replace(UA, name="good"), replace(UA, name="top_n", needs=("nothing",))
"""


def announce(monkeypatch: pytest.MonkeyPatch, target: Registry[object], **values: str) -> None:
    """Have the registry find entry points of another package."""
    points = [EntryPoint(name, value, "lethe") for name, value in values.items()]
    for point in points:
        vars(point)["dist"] = Package()
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    target._discovered = False  # as in a new process; the fixture puts it back
    target.names()


def test_bad_entry_points_are_left_out_and_the_run_goes_on(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "their_things.py").write_text(THEIRS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "their_things", None)
    monkeypatch.delitem(sys.modules, "their_things")
    broken, theirs = "no_such_module:x", "their_things"
    announce(monkeypatch, METHODS, mimmu=broken, gone=broken, bad=f"{theirs}:Bad", fine=f"{theirs}:Good")
    announce(monkeypatch, METRICS, missing=broken, top_n=f"{theirs}:bad", good=f"{theirs}:good")
    plan = resolve(RunConfig(("all",), "smoke", "tiny", out=tmp_path))
    assert {"mimmu", "fine"} <= set(plan.methods)
    assert {"ua", "good"} <= set(plan.metrics)
    assert not {"gone", "bad"} & set(plan.methods)
    assert not {"missing", "top_n"} & set(plan.metrics)
    assert len(caplog.messages) == 5
    assert all("of the package theirs 1.2 (entry point" in message for message in caplog.messages)
    assert "fidelity is 'exact'; it must be one of published" in caplog.text
    assert "metric 'top_n' needs 'nothing'" in caplog.text
    for name, reason in {"gone": "ModuleNotFoundError", "bad": "fidelity is 'exact'"}.items():
        with pytest.raises(ValueError, match=rf"the package theirs 1\.2 .* can't be used: .*{reason}"):
            resolve(RunConfig((name,), "smoke", "tiny", out=tmp_path))
    with pytest.raises(ValueError, match=r"the package theirs 1\.2 .* can't be used: .*ModuleNotFoundError"):
        resolve(RunConfig(("mimmu",), "smoke", "tiny", metrics=("missing",), out=tmp_path))
    caplog.clear()
    chosen = resolve(RunConfig(("fine",), "smoke", "tiny", metrics=("good", "ua"), out=tmp_path))
    assert chosen.metrics == ("ua", "good")
    assert not caplog.messages


def test_a_listing_leaves_bad_entry_points_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    announce(monkeypatch, METRICS, missing="no_such_module:x", last="metrics.ua:UA")
    assert main.main(["ls", "metrics"]) == 0
    assert "nra" in capsys.readouterr().out
    assert len(caplog.messages) == 2  # the second has another name
    assert isinstance(METRICS.get("nra"), Metric)
    assert WORLDS.names()
    assert SUITES.names()
