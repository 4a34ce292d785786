"""A run as a file: the same as the flags, and mistakes are found with their line."""

from pathlib import Path

import pytest

from bench.commands import arguments, config_file, main
from bench.core.config import RunConfig
from bench.worlds import World

EVERYTHING = """\
methods: [mimmu, 'esd*']
suite: multi
world: tiny
backbone: sd15
backbone-config: sd14
data: /data
neighbours: 3
clip: none
judge: ["dogs=resnet50"]
seeds: [4, 5]
metrics: [ua, 'pid_*']
curve: 4
sample_batch: 8
set:
  mimmu: {lr: 1e-4, steps: none, mixed: true}
  protocol:
    noise_seeds: [1, 2]
sweep: {mimmu: {t_max: [300, 600], parameters: attn2}}
k: [2, 4]
plugin: /plugins/mine.py
quick: true
gradient_checkpointing: yes
out: boards
workers: 2
executor: slurm
slurm: {partition: gpu, time: "4:00:00"}
"""


def read(tmp_path: Path, text: str, *words: str) -> tuple[RunConfig, arguments.Spread]:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    args = arguments.parse(main.parser(), ["--config", str(file), *words])
    return arguments.run_config(args), arguments.spread(args)


def test_file_accepts_every_flag(tmp_path: Path) -> None:
    run, spread = read(tmp_path, EVERYTHING)
    assert run == RunConfig(
        methods=("mimmu", "esd*"), suite="multi", world="tiny", backbone="sd15", backbone_config="sd14",
        data=Path("/data"), neighbours="3", clip="none", judges=("dogs=resnet50",), seeds=(4, 5),
        metrics=("ua", "pid_*"), curve=4, sample_batch=8,
        overrides={"mimmu": {"lr": "1e-4", "steps": "none", "mixed": "true"}, "protocol": {"noise_seeds": "[1, 2]"}},
        sweep={"mimmu": {"t_max": ("300", "600"), "parameters": ("attn2",)}}, several=(2, 4),
        plugins=(Path("/plugins/mine.py"),), quick=True, gradient_checkpointing=True, out=Path("boards"),
    )  # fmt: skip
    assert spread.settings().options == {"partition": "gpu", "time": "4:00:00"}
    assert spread.workers == 2


def test_settings_may_be_list_or_mapping(tmp_path: Path) -> None:
    texts = (
        "set: {mimmu: {lr: 1e-4}, protocol: {guidance_scale: 3}}",
        'set: ["mimmu.lr=1e-4", protocol.guidance_scale=3]',
    )
    first, second = (read(tmp_path, text)[0] for text in texts)
    assert first == second == RunConfig(overrides={"mimmu": {"lr": "1e-4"}, "protocol": {"guidance_scale": "3"}})


def test_single_value_equals_list_of_one(tmp_path: Path) -> None:
    assert read(tmp_path, "methods: mimmu\nseeds: 2")[0] == RunConfig(methods=("mimmu",), seeds=(0, 1))
    assert read(tmp_path, "")[0] == RunConfig()


def test_command_line_overrides_file(tmp_path: Path) -> None:
    text = "methods: [mimmu, salun]\nsuite: smoke\nquick: true\nworkers: 2\nset: {mimmu: {lr: 1e-4}}"
    words = ["--methods", "sdd", "--no-quick", "--workers", "3", "--set", "sdd.lr=1"]
    run, spread = read(tmp_path, text, *words)
    assert run == RunConfig(methods=("sdd",), suite="smoke", overrides={"sdd": {"lr": "1"}})
    assert spread.workers == 3


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("methods: [mimmu]\nseads: 3", 2, "no flag is called 'seads': did you mean 'seeds'"),
        ("suite: smoke\nworld: tiny\nsuite: smoke", 3, "'suite' is given twice"),
        ("backbone_config: a\nbackbone-config: b", 2, "'backbone-config' is given twice"),
        ("\ncurve: many", 2, "curve takes a whole number, not text (many)"),
        ("curve: 2.5", 1, "curve takes a whole number, not the number (2.5)"),
        ("curve: [2]", 1, "curve takes a whole number, not a list"),
        ("quick: 3", 1, "quick takes true or false, not the number (3)"),
        ("suite: 5", 1, "suite takes text, not the number (5)"),
        ("suite: on", 1, "suite takes text, not true or false (on)"),
        ("suite: ", 1, "suite takes text, not nothing"),
        ("methods: [mimmu, 5]", 1, "methods takes text, not the number (5)"),
        ("methods: []", 1, "methods takes text, or a list of several, not an empty list"),
        ("methods: {mimmu: 1}", 1, "methods takes text, or a list of several, not a mapping"),
        ("k: [2, two]", 1, "k takes a whole number, or a list of several, not text (two)"),
        ("seeds: 0", 1, "--seeds must be at least 1, not 0"),
        ("seeds: [0, x]", 1, "'0,x,' is neither a number of seeds"),
        ("workers: 0", 1, "must be a whole number, at least 1, not 0"),
        ("set: {mimmu: 3}", 1, "set takes {mimmu: {FIELD: VALUE}}, not the number (3)"),
        ("set:\n  mimmu:\n    lr: 1\n    lr: 2", 4, "'lr' is given twice"),
        ("set: [mimmu.lr]", 1, "--set takes SECTION.FIELD=VALUE"),
        ("set: {mimmu: {lr: {a: 1}}}", 1, "a setting takes a text, a number or a list, not a mapping"),
        ("sweep: {mimmu: {t_max: [300, 300]}}", 1, "--sweep mimmu.t_max names '300' twice"),
        ("sweep: {mimmu: {prompt: ['a, b', c]}}", 1, "a value of sweep can't have a comma: 'a, b'"),
        ("- mimmu", 1, "a run file has lines of the form `name: value`"),
        ("suite: [smoke", 1, "not YAML"),
    ],
)  # fmt: skip
def test_invalid_file_is_refused_with_line(tmp_path: Path, text: str, line: int, said: str) -> None:
    with pytest.raises(config_file.WrongFile) as raised:
        read(tmp_path, text)
    assert str(raised.value).startswith(f"--config {tmp_path / 'run.yaml'}, line {line}: ")
    assert said in str(raised.value)


def test_unreadable_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["plan", "--config", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml: can't be read (No such file or directory)" in capsys.readouterr().out
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    assert main.main(["plan", "--config", str(tmp_path / "binary")]) == 2
    assert "not a text file" in capsys.readouterr().out


def test_commands_ignore_flags_of_other_commands_in_file(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.yaml").write_text(f"world: tiny\nsuite: smoke\nmethods: mimmu\nworkers: 1\nout: {tmp_path}")
    words = ["pack", "--config", str(tmp_path / "run.yaml"), "--to", str(tmp_path / "x.results.tar.xz")]
    assert main.main(words) == 2
    assert "has no finished cell of this run" in capsys.readouterr().out
