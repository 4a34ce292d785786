"""The command line for someone who looks, asks or errs: nothing is computed."""

import dataclasses
import shlex
from pathlib import Path

import pytest

from bench.cells import artifacts
from bench.commands import arguments, listing, main
from bench.core.config import QUICK, RunConfig
from bench.worlds import World
from methods import METHODS
from metrics import METRICS

SMOKE = ("--world", "tiny", "--suite", "smoke", "--workers", "1")


def parsed(*words: str) -> RunConfig:
    return arguments.run_config(arguments.parse(main.parser(), words))


def refuse(*args: object, **kwargs: object) -> None:
    raise AssertionError("computed")


@pytest.mark.parametrize("what", ["methods", "suites", "worlds", "metrics", "executors"])
def test_list_has_every_name(world: World, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["ls", what]) == 0
    told = capsys.readouterr().out
    names = {"methods": METHODS.names(), "metrics": METRICS.names(), "worlds": ("pocket", "tiny"),
             "suites": ("finegrained", "style", "object", "search", "smoke"),
             "executors": ("local", "slurm", "ray")}[what]  # fmt: skip
    assert all(name in told for name in names)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "mimum"], "did you mean 'mimmu'"),
        (["--suite", "smok"], "did you mean 'smoke'"),
        (["--metrics", "ua", "drif"], "did you mean 'drift'"),
        (["--set", "mimmu.learning_rate=1"], "mimmu has no setting 'learning_rate'"),
        (["--set", "mimmu.epochs=many"], "mimmu.epochs takes int, not 'many'"),
        (["--methods", "salun", "--set", "mimmu.lr=1"], "nothing called 'mimmu'"),
        (["--backbone", "./nowhere"], "no diffusers pipeline"),
        (["--backbone", "sd1.5"], "did you mean 'sd15'"),
        (["--backbone", "sd15"], "hf download stable-diffusion-v1-5/stable-diffusion-v1-5 model_index.json"),
        (["--backbone", "v1-5-pruned-emaonly.ckpt"], "no such file"),
        (["--backbone-config", "sd15"], "is for a single .safetensors file"),
        (["--slurm", "partition=gpu"], "--slurm goes with --executor slurm"),
        (["--ray-address", "auto"], "--ray-address goes with --executor ray"),
        (["--executor", "ray", "--ray", "num_gpus=all"], "--ray num_gpus=all: no numbers"),
        (["--attach"], "--attach needs --executor slurm or ray"),
        (["--set", "pretrained.lr=3"], "--set pretrained...: pretrained is a control and has nothing to set"),
        (["--sweep", "wrecked.lr=1,2"], "--sweep wrecked...: wrecked is a control and has nothing to set"),
        (["--sweep", "mimmu.lr=1e-4,0.0001"], "'mimmu lr=1e-4' and 'mimmu lr=0.0001' have the same settings"),
        (
            ["--set", "mimmu.steps=10", "--sweep", "mimmu.epochs=1,2"],
            "--set mimmu.steps comes to nothing beside --sweep mimmu.epochs, which stands in its place",
        ),
        (
            ["--set", "mimmu.t_max=900", "--sweep", "mimmu.t_max=300,600"],
            "mimmu.t_max is both set and swept: leave out --set mimmu.t_max=...",
        ),
        (["--retries", "-1"], "--retries must be at least 0, not -1"),
    ],
)
def test_invalid_flags_are_refused_before_any_model_is_loaded(
    world: World,
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(artifacts.judges, "Judges", refuse)
    assert main.main([*SMOKE, "--out", str(tmp_path), *arguments]) == 2
    assert message in capsys.readouterr().out.replace("\n", " ")


@pytest.mark.parametrize("words", [["run"], ["collect"], ["plan", "--results", "none.results.tar.xz"]])
def test_unwritable_folder_is_refused_before_any_cell(
    world: World, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").write_text("a file")
    assert main.main([*words, *SMOKE, "--out", str(tmp_path / "taken")]) == 2
    told = capsys.readouterr().out.replace("\n", " ")
    assert f"taken: {tmp_path / 'taken'} is a file, not a folder" in told


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0", "--seeds must be at least 1, not 0"),
        ("x", "'x' is neither a number of seeds ('3') nor a list of seeds ('4,5', or '7,')"),
        (",", "',' is neither"),
        ("", "'' is neither"),
        ("1,-2", "'1,-2' is neither"),
    ],
)
def test_invalid_seeds_are_refused_with_valid_forms(text: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main.main(["--seeds", text])
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("text", ["a=1,a=2", "=3", "a=1,,b=2", "alone"])
def test_cluster_options_are_parsed_into_names_and_values(text: str) -> None:
    assert arguments.pairs("partition=gpu, --time=4:00:00,exclude=n1,n2,exclusive=") == {
        "partition": "gpu", "time": "4:00:00", "exclude": "n1,n2", "exclusive": "",
    }  # fmt: skip
    with pytest.raises(ValueError, match="must have the form NAME=VALUE"):
        arguments.pairs(text)


def test_plan_with_many_cells_is_summarised_by_method(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["plan", *SMOKE, "--methods", "mimmu", "--seeds", "3", "--out", str(tmp_path)]
    assert main.main(words) == 0
    assert "seed 2" in capsys.readouterr().out
    monkeypatch.setattr(listing, "MAX_LISTED_CELLS", 8)
    assert main.main(words) == 0
    told = capsys.readouterr().out
    assert "seed 2" not in told
    assert "9 cells: 0 stored, 9 to do" in told
    rows = [line.split() for line in told.splitlines() if line.strip().startswith(("mimmu", "wrecked"))]
    assert rows == [["wrecked", "3", "0", "0", "0", "~0.0"], ["mimmu", "3", "0", "0", "0", "not", "known"]]


def test_help_lists_commands_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert "python run_bench.py --methods mimmu salun --suite finegrained" in text
    lines = text[text.index("commands:") : text.index("examples:")].splitlines()
    assert [line.split()[0] for line in lines[1:] if line] == list(main.COMMANDS)
    codes = {main.OK: "finished", main.FAILED: "a cell failed", main.USAGE: "can't be run", main.INTERRUPTED: "Ctrl-C"}
    for code, words in codes.items():
        (line,) = [line for line in text.splitlines() if line.startswith(f"  {code} ")]
        assert words in line


@pytest.mark.parametrize("name", main.COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main.main([name, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: python run_bench.py {name} ")
    assert len(text.split("options:")[0].split()) > 15  # it says what the command is for
    parser = main.parser(name)
    assert all(action.help for action in parser._actions)


def test_help_of_run_groups_flags() -> None:
    text = main.parser().format_help()
    groups = ["what to run:", "how to measure:", "how to run it:", "where:"]
    places = [text.index(f"\n{group}\n") for group in groups]
    assert places == sorted(places)
    assert f"{QUICK.tasks} tasks, {QUICK.images_per_concept} images a concept" in " ".join(text.split())
    assert "one per CPU core up to 4" in " ".join(text.split())


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["--methods", "all", "--plan"], "plan"),
        (["--list", "methods"], "ls"),
        (["--methods", "mimmu", "--collect"], "collect"),
        (["--export", "mimmu/tulip", "--to", "x"], "export"),
        (["--prepare", "natural", "--data", "x"], "prepare"),
    ],
)
def test_old_flag_is_refused_with_its_command(
    words: list[str], command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main.main(words)
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert f"is now the command `{command}`: python run_bench.py {command} " in said


def test_unknown_flag_or_command_is_refused_with_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main.main(["plan", "--sead", "3"])
    assert "did you mean '--seeds'" in capsys.readouterr().err
    assert main.main(["plam"]) == 2
    assert "no command is called 'plam': did you mean 'plan' or 'pack'?" in capsys.readouterr().out


def test_default_command_is_run() -> None:
    words = ["--methods", "mimmu", "salun", "--suite", "finegrained"]
    assert parsed(*words) == parsed("--suite", "finegrained") == RunConfig()


def test_suites_list_number_of_tasks_in_world(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["ls", "suites", "--world", "tiny"]) == 0
    told = capsys.readouterr().out
    assert "tasks in tiny" in told
    (line,) = [line for line in told.splitlines() if line.strip().startswith("finegrained")]
    assert line.split()[-2:] == ["Lethe", "9"]
    assert main.main(["ls", "suites", "--world", "tinny"]) == 2


def test_worlds_list_number_of_concepts(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["ls", "worlds"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.strip().startswith("tiny")]
    assert line.split()[-3:] == ["3", "15", "3"]


def test_command_of_run_parses_to_equal_run(tmp_path: Path) -> None:
    run = RunConfig(
        methods=("mimmu", "salun"), suite="smoke", world="tiny", backbone="some where.safetensors",
        backbone_config="sd21-base", seeds=(1, 2),
        metrics=("ua", "fid"), overrides={"mimmu": {"lr": "1e-4"}, "protocol": {"guidance_scale": "3"}},
        plugins=(tmp_path / "mine.py",), quick=True, out=tmp_path,
    )  # fmt: skip
    for one in (run, RunConfig(), dataclasses.replace(run, force=True)):
        assert parsed(*shlex.split(one.command)[2:]) == one


def test_plan_prints_equal_command(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(f"world: tiny\nsuite: smoke\nmethods: [mimmu]\nworkers: 1\nseeds: 2\nout: {tmp_path}\n")
    assert main.main(["plan", "--config", str(file), "--seeds", "1"]) == 0
    command = capsys.readouterr().out.strip().splitlines()[-1].strip()
    assert command == f"python run_bench.py --methods mimmu --suite smoke --world tiny --out {tmp_path} --workers 1"
