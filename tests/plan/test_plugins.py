import sys
from pathlib import Path

import pytest
from support import guide
from support.plugin_files import METHOD, save

from bench.cells.artifacts import Artifacts, Context
from bench.commands import main
from bench.core.config import RunConfig
from bench.plan import plugins
from bench.plan.plan import resolve
from bench.worlds import World
from methods import METHODS

pytestmark = pytest.mark.usefixtures("plugged")


def test_another_text_is_another_method(world: World, tmp_path: Path) -> None:
    def key(file: Path) -> dict[str, object]:
        run = RunConfig(("mine",), "smoke", "tiny", plugins=(file,), out=tmp_path)
        with plugins.temporarily():
            plan = resolve(run)
            return Artifacts(Context(plan)).weights.key(plan.cells[-1])

    first = key(save(tmp_path / "a", METHOD))
    assert key(save(tmp_path / "b", METHOD)) == first  # where the file lies does not matter
    other = key(save(tmp_path / "c", METHOD + "\n    eta = 2\n"))
    assert {name for name in first if first[name] != other[name]} == {"version"}


def test_a_file_is_loaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = save(tmp_path, METHOD)
    monkeypatch.chdir(tmp_path)
    plugins.load([file, Path("mine.py")])
    found = METHODS.get("mine")
    plugins.load([file])
    assert METHODS.get("mine") is found
    assert sys.modules[found.__module__].__file__ == str(file)


def test_a_block_forgets_what_it_loaded(tmp_path: Path) -> None:
    file = save(tmp_path, METHOD)
    with plugins.temporarily():
        plugins.load([file])
        first = METHODS.get("mine")
    assert "mine" not in METHODS
    plugins.load([file])  # loaded again, and no duplicate
    assert METHODS.get("mine") is not first


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n\nimport no_such_package\n", "mine.py, line 3: ModuleNotFoundError: No module named 'no_such_package'"),
        ("x = 1\ndef f(:\n", "mine.py, line 2: SyntaxError"),
        ("def f():\n    return 1 / 0\n\nf()\n", "mine.py, line 2: ZeroDivisionError"),
        ("raise SystemExit(3)\n", "mine.py, line 1: SystemExit: 3"),
        ("x = 1\n", "mine.py: registers nothing"),
        (METHOD.replace('"mine"', '"salun"'), "line 5: method 'salun' is registered twice"),
        (METHOD.replace('"a test"', '""'), "method 'mine' (class Mine) does not say its source"),
        ("from metrics import METRICS\nMETRICS.add('m', 3)\n", "metric 'm' is no Metric but 3"),
        ("from methods import METHODS\nMETHODS.add('m', 'nowhere:M')\n", "No module named 'nowhere'"),
    ],
)
def test_mistakes_in_a_plugin_are_explained(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = save(tmp_path, text)
    loaded = set(sys.modules)
    assert main.main(["ls", "methods", "--plugin", str(file)]) == 2
    assert message in capsys.readouterr().out
    assert not [name for name in set(sys.modules) - loaded if name.startswith("lethe_plugin")]


@pytest.mark.parametrize(("name", "message"), [("none.py", "no such file"), ("none.txt", "not a python file")])
def test_a_plugin_that_is_not_there_is_named(
    name: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["ls", "methods", "--plugin", str(tmp_path / name)]) == 2
    assert f"{name}: {message}" in capsys.readouterr().out


def test_a_plugin_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    file = guide.plugin("add-a-method.md", "neighbour.py")
    assert main.main(["ls", "methods", "--plugin", str(file)]) == 0
    told = capsys.readouterr().out
    assert any("neighbour" in line and "reconstruction" in line for line in told.splitlines())
