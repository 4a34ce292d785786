"""Plug-ins run the code that their cache key names: as it stands in their files, and in those that these import."""

import os
import py_compile
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.plugin_files import METHOD, save

from bench.cells.artifact import of_method, of_metric, of_world, raised
from bench.core.contents import source_files
from bench.core.registry import Registry
from bench.plan import plugins
from bench.worlds import WORLDS
from methods import METHODS
from metrics import METRICS

pytestmark = pytest.mark.usefixtures("plugged")

IMPORTS = {
    "a constant": ("from helper_x import NUMBER", "helper_x.py"),
    "everything": ("from helper_x import *", "helper_x.py"),
    "a module": ("import helper_x as h", "helper_x.py"),
    "a module in a folder": ("from library_x import helper_x", "library_x/helper_x.py"),
    "a constant in a folder": ("from library_x.helper_x import NUMBER", "library_x/helper_x.py"),
    "a package": ("from library_x import NUMBER", "library_x/__init__.py"),
    "within a function": ("def later():\n    from helper_x import NUMBER\n    return NUMBER", "helper_x.py"),
    "in a block that is skipped": ("if False:\n    import helper_x", "helper_x.py"),
    "by name": ("import importlib\nhelp = importlib.import_module('helper_x')", "helper_x.py"),
    "in another folder": ("import helper_x", "../elsewhere/helper_x.py"),
    "through another": ("from between_x import NUMBER", "helper_x.py"),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a plug-in, from which it can import, and one elsewhere."""
    for name in ("plugin", "elsewhere"):
        (tmp_path / name).mkdir()
        monkeypatch.syspath_prepend(tmp_path / name)
    before = set(sys.modules)
    yield tmp_path / "plugin"
    for name in set(sys.modules) - before:
        if "_x" in name:
            del sys.modules[name]


def overwrite(file: Path, text: str) -> None:
    """Other content of the same size and times."""
    before = file.stat()
    file.write_text(text)
    assert file.stat().st_size == before.st_size
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    source_files.forget([file.resolve()])  # as in a new process


@pytest.mark.parametrize("how", IMPORTS)
def test_keys_contain_every_file_that_a_plugin_imports(folder: Path, how: str) -> None:
    line, name = IMPORTS[how]
    helper = folder / name
    helper.parent.mkdir(exist_ok=True)
    helper.write_text("NUMBER = 1\n")
    (folder / "between_x.py").write_text("from helper_x import NUMBER\n" if how == "through another" else "")
    (folder / "stranger_x.py").write_text("NUMBER = 1\n")
    file = save(folder, f"{line}\n{METHOD}")
    plugins.load([file])
    first = of_method(METHODS.get("mine"))
    overwrite(folder / "stranger_x.py", "NUMBER = 2\n")
    assert of_method(METHODS.get("mine")) == first
    overwrite(helper, "NUMBER = 2\n")
    assert of_method(METHODS.get("mine")) != first


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_other_byte_of_a_plugin_is_another_key(folder: Path, data: st.DataObject) -> None:
    text = METHOD + "    eta = 2  # note\n"
    file = folder / "mine.py"
    if "mine" not in METHODS:
        save(folder, text)
        plugins.load([file])
    first = of_method(METHODS.get("mine"))
    at = data.draw(st.integers(0, len(text) - 1), "at")
    other = data.draw(st.sampled_from([c for c in "ab 1#\n" if c != text[at]]), "other")
    overwrite(file, text[:at] + other + text[at + 1 :])
    assert of_method(METHODS.get("mine")) != first
    overwrite(file, text)
    assert of_method(METHODS.get("mine")) == first


def test_changed_plugin_or_helper_runs_anew_in_the_same_process(folder: Path) -> None:
    (folder / "helper_x.py").write_text("NUMBER = 1\n")
    file = save(folder, f"from helper_x import NUMBER\n{METHOD}    number, other = NUMBER, 1\n")
    plugins.load([file])
    assert (METHODS.get("mine").number, METHODS.get("mine").other) == (1, 1)  # type: ignore[attr-defined]
    overwrite(folder / "helper_x.py", "NUMBER = 2\n")
    plugins.load([file])
    assert METHODS.get("mine").number == 2  # type: ignore[attr-defined]
    overwrite(file, file.read_text().replace("NUMBER, 1", "NUMBER, 2"))
    plugins.load([file])
    assert METHODS.get("mine").other == 2  # type: ignore[attr-defined]
    with plugins.temporarily():
        overwrite(folder / "helper_x.py", "NUMBER = 3\n")
        plugins.load([file])
        assert METHODS.get("mine").number == 3  # type: ignore[attr-defined]


def test_keys_contain_the_code_that_this_process_runs(folder: Path) -> None:
    helper, later = folder / "helper_x.py", folder / "later_x.py"
    helper.write_text("NUMBER = 1\n")
    later.write_text("NUMBER = 1\n")
    file = save(folder, f"from helper_x import NUMBER\n{METHOD}    def later(self):\n        import later_x\n")
    plugins.load([file])
    first, text = of_method(METHODS.get("mine")), file.read_text()
    for one in (helper, later, file):
        one.write_text(one.read_text() + "# more\n")
    assert of_method(METHODS.get("mine")) == first
    with pytest.raises(ImportError, match=r"later_x.py changed after this run began"):
        METHODS.get("mine").later(None)  # type: ignore[attr-defined]
    plugins.load([file])
    assert of_method(METHODS.get("mine")) != first
    METHODS.get("mine").later(None)  # type: ignore[attr-defined]
    for one in (helper, later, file):
        one.write_text(text if one == file else "NUMBER = 1\n")
    plugins.load([file])
    assert of_method(METHODS.get("mine")) == first


def test_keys_contain_the_plugins_of_base_classes_without_a_name(folder: Path) -> None:
    base = save(folder, METHOD.replace('"mine"', '"base_x"'), "base_x.py")
    text = METHOD.replace("(MimMu)", "(METHODS.get('base_x'))").replace("from methods.mimmu import MimMu", "")
    files = [base, save(folder, text)]
    plugins.load(files)
    first = of_method(METHODS.get("mine"))
    overwrite(base, base.read_text().replace("moves", "mover"))
    assert of_method(METHODS.get("mine")) != first


def test_compiled_copies_are_not_trusted(folder: Path) -> None:
    """A copy counts for Python if size and time of its source are those that it has noted."""
    helper, file = folder / "helper_x.py", folder / "mine.py"
    helper.write_text("NUMBER = 1\n")
    save(folder, f"from helper_x import NUMBER\n{METHOD}    number = NUMBER\n")
    for one in (helper, file):
        py_compile.compile(str(one))
    overwrite(helper, "NUMBER = 2\n")
    overwrite(file, file.read_text().replace("number = NUMBER", "number = -NUMBER").replace("a test", "a tes"))
    plugins.load([file])
    assert METHODS.get("mine").number == -2  # type: ignore[attr-defined]


FACTORY = """
from metrics import Metric, Score
def make(name, k):
    def compute(evidence):
        return Score(float(k), 1)
    return Metric(name, "a test", "", True, 0.0, 9.0, "a test", compute)
"""


def test_a_value_from_elsewhere_has_the_key_of_the_plugin_that_registers_it(folder: Path) -> None:
    (folder / "factory_x.py").write_text(FACTORY)
    text = "from metrics import METRICS\nfrom factory_x import make\nMETRICS.add('mine_x', make('mine_x', 1))\n"
    file = save(folder, text)
    plugins.load([file])
    first, known = of_metric(METRICS.get("mine_x")), raised(["mine_x"])
    overwrite(file, text.replace("1)", "2)"))
    plugins.load([file])
    assert of_metric(METRICS.get("mine_x")) != first
    assert raised(["mine_x"]) != known  # boards of the two formulas are not put together


def test_a_world_of_a_plugin_has_its_source_in_the_key_of_its_judges(folder: Path) -> None:
    text = "from bench.worlds import WORLDS\nfrom bench.worlds.pocket.world import Pocket\n"
    text += "class Mine(Pocket):\n    name = 'mine_x'\n\nWORLDS.add('mine_x', Mine())\n# 1\n"
    file = save(folder, text)
    plugins.load([file])
    first = of_world(WORLDS.get("mine_x"))
    assert of_world(WORLDS.get("pocket")) == {}
    overwrite(file, text.replace("# 1", "# 2"))
    assert of_world(WORLDS.get("mine_x")) != first


def test_code_without_a_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nowhere_x", type(sys)("nowhere_x"))
    with pytest.raises(ValueError, match="'nowhere_x' has no source file"):
        source_files.of_modules(["nowhere_x"])


def test_registries_know_who_registered_a_value() -> None:
    registry: Registry[object] = Registry("thing")
    value = object()
    registry.add("a", value)
    assert registry.homes(value) == ()
    registry.set_home("a", "plugin")
    with registry.temporarily():
        registry.add("b", value)
        registry.set_home("b", "another")
        assert registry.homes(value) == ("another", "plugin")
        registry.discard("b")
        assert "b" not in registry
    assert registry.homes(value) == ("plugin",)
