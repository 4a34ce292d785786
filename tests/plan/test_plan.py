import dataclasses
from pathlib import Path

import pytest

from bench.commands import arguments, main
from bench.core.config import QUICK, RunConfig
from bench.core.registry import UnknownName
from bench.plan.board_name import board_name
from bench.plan.names import method_names
from bench.plan.plan import resolve
from bench.suites import SUITES
from bench.worlds import World
from methods.mimmu import MimMuConfig


def test_controls_are_always_on_and_come_first() -> None:
    assert method_names(("salun", "mimmu", "salun", "pretrained")) == (
        "pretrained", "wrecked", "oracle", "salun", "mimmu"
    )  # fmt: skip
    assert set(method_names(("all",))) >= {"pretrained", "wrecked", "mimmu", "salun"}
    with pytest.raises(UnknownName, match="did you mean 'salun'"):
        method_names(("saluun",))


def test_cells_are_methods_by_tasks_by_seeds(world: World) -> None:
    plan = resolve(RunConfig(world="tiny", methods=("mimmu",), seeds=(0, 1)))
    assert len(plan.cells) == 3 * 9 * 2
    assert len({cell.name for cell in plan.cells}) == len(plan.cells)
    assert [cell.method for cell in plan.cells[:3]] == ["pretrained", "wrecked", "mimmu"]


def test_settings_come_from_paper_then_world_then_suite_then_user(world: World) -> None:
    def config(suite: str, **texts: str) -> MimMuConfig:
        plan = resolve(RunConfig(world="tiny", methods=("mimmu",), suite=suite, overrides={"mimmu": texts}))
        found = next(cell.config for cell in plan.cells if cell.method == "mimmu")
        assert isinstance(found, MimMuConfig)
        return found

    full = config("finegrained")
    assert full.t_max == MimMuConfig().t_max  # nobody but the paper says anything
    assert full.lr == world.presets["mimmu"]["lr"] != MimMuConfig().lr
    assert config("smoke").epochs == 2
    assert config("smoke", epochs="7", lr="0.5").epochs == 7
    assert config("smoke", epochs="7", lr="0.5").lr == 0.5


def test_epochs_and_steps_take_each_others_place(world: World) -> None:
    def length(**texts: str) -> tuple[int | None, int | None]:
        plan = resolve(RunConfig(world="tiny", methods=("esd-x",), overrides={"esd-x": texts}))
        config = next(cell.config for cell in plan.cells if cell.method == "esd-x")
        return config.epochs, config.steps

    assert length(lr="1") == (None, 1000)
    assert length(epochs="5") == (5, None)
    assert length(steps="5") == (None, 5)
    with pytest.raises(ValueError, match=r"^esd-x: training takes either epochs or steps"):
        length(epochs="5", steps="5")


def test_another_backbone_takes_the_papers_settings(world: World, pipeline_folder: Path) -> None:
    plan = resolve(RunConfig(world="tiny", methods=("mimmu",), backbone=str(pipeline_folder)))
    assert plan.cells[-1].config == MimMuConfig()


def test_the_protocol_can_be_set(world: World) -> None:
    plan = resolve(RunConfig(world="tiny", overrides={"protocol": {"guidance_scale": "5"}}))
    assert plan.protocol.guidance_scale == 5.0
    assert plan.protocol.images_per_concept == world.protocol.images_per_concept


def test_quick_takes_fewer_tasks_from_different_domains_and_bands(world: World) -> None:
    plan = resolve(RunConfig(world="tiny", quick=True))
    assert [task.band for task in plan.tasks] == ["far", "near"]
    assert len({world.domain_of(task.forget[0]) for task in plan.tasks}) == 2
    full = resolve(RunConfig(world="tiny"))
    assert plan.protocol.images_per_concept == QUICK.images_per_concept < full.protocol.images_per_concept
    assert plan.protocol.reference_per_concept == min(QUICK.reference_per_concept, full.protocol.reference_per_concept)
    assert [cell.config for cell in plan.cells[:4]] == [cell.config for cell in full.cells[:4]]  # training stays
    training = ("forget_images", "retain_images", "num_inference_steps")
    assert all(getattr(plan.protocol, name) == getattr(full.protocol, name) for name in training)
    assert len(resolve(RunConfig(world="tiny", suite="smoke", quick=True)).tasks) == 1
    assert board_name(plan) == "finegrained-tiny-quick"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"suite": "finegraind"}, "did you mean 'finegrained'"),
        ({"world": "pokcet"}, "did you mean 'pocket'"),
        ({"seeds": (1, 1)}, "seeds must be different"),
        ({"overrides": {"sdd": {"lr": "1"}}}, "nothing called 'sdd' in this run"),
        ({"overrides": {"mimmu": {"parameters": "everything"}}}, "unknown parameters 'everything'"),
        ({"overrides": {"mimmu": {"optimizer": "sgdd"}}}, "unknown optimizer"),
        ({"overrides": {"protocol": {"scheduler": "euler"}}}, "unknown scheduler"),
        ({"overrides": {"protocol": {"evaluation_seed": "2"}}}, "must differ"),
        ({"overrides": {"protocol": {"images_per_concept": "0"}}}, "at least 1"),
    ],
)
def test_mistakes_are_found_before_anything_is_loaded(world: World, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve(RunConfig(**{"world": "tiny", **changes}))


@pytest.mark.parametrize(
    ("suite", "asked", "measured"),
    [
        ("smoke", None, 0),
        ("smoke", 0, 0),
        ("smoke", 2, 2),
        ("resurgence", None, 5),
        ("resurgence", 3, 3),
        ("own", 0, 0),
        ("own", None, 4),
    ],
)
@pytest.mark.usefixtures("plugged")
def test_a_curve_is_the_suites_own_unless_the_run_says_otherwise(
    world: World, suite: str, asked: int | None, measured: int
) -> None:
    SUITES.add("own", dataclasses.replace(SUITES.get("smoke"), name="own", curve=4))
    run = RunConfig(("mimmu",), suite, "tiny", curve=asked)
    assert resolve(run).curve == measured
    given = [] if asked is None else ["--curve", str(asked)]
    assert arguments.run_config(arguments.parse(main.parser(), given)).curve == asked
    assert (f"--curve {asked}" in run.command) == (asked is not None)


@pytest.mark.parametrize("curve", [1, -1])
def test_a_curve_of_one_checkpoint_is_refused(curve: int) -> None:
    with pytest.raises(ValueError, match=rf"--curve must be at least 2, or 0 for no curve, not {curve}:"):
        RunConfig(curve=curve)
    with pytest.raises(ValueError, match=rf"at least 2 checkpoints, or 0 for no curve, not {curve}$"):
        dataclasses.replace(SUITES.get("smoke"), curve=curve)


def test_a_suite_that_measures_nothing_without_its_curve_refuses_to_go_without(world: World) -> None:
    message = "--curve 0 makes no sense for the suite 'resurgence': it measures at checkpoints along the .*; leave"
    with pytest.raises(ValueError, match=message):
        resolve(RunConfig(("mimmu",), "resurgence", "tiny", curve=0))


def test_a_backbone_that_is_no_pipeline_is_refused(world: World, tmp_path: Path) -> None:
    for wrong in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match="no diffusers pipeline"):
            resolve(RunConfig(world="tiny", backbone=str(wrong)))


def test_a_sweep_is_a_row_for_every_combination(world: World) -> None:
    sweep = {"mimmu": {"t_max": ("300", "600"), "lr": ("1e-3",)}}
    plan = resolve(RunConfig(world="tiny", methods=("mimmu", "salun"), sweep=sweep))
    assert list(plan.methods) == [
        "pretrained", "wrecked", "salun", "mimmu t_max=300 lr=1e-3", "mimmu t_max=600 lr=1e-3"
    ]  # fmt: skip
    configs = {cell.method: cell.config for cell in plan.cells}
    assert [c.t_max for c in configs.values() if isinstance(c, MimMuConfig)] == [300, 600]
    assert plan.base_method("mimmu t_max=300 lr=1e-3") == "mimmu"
    assert plan.base_method("salun") == "salun"
    assert board_name(plan) == "finegrained-tiny-sweep-mimmu.t_max-sweep-mimmu.lr"  # not over the suite's board


@pytest.mark.parametrize(
    ("sweep", "said"),
    [
        ({"sdd": {"lr": ("1",)}}, r"--sweep sdd\.\.\.: nothing called 'sdd' in this run"),
        ({"mimmu": {"t_mx": ("1",)}}, "mimmu has no setting 't_mx': did you mean 't_max'"),
        ({"mimmu": {"t_max": ("many",)}}, "mimmu.t_max takes int, not 'many'"),
        ({"mimmu": {"t_max": ("30",)}}, "no range of timesteps"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused(world: World, sweep: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        resolve(RunConfig(world="tiny", methods=("mimmu",), sweep=sweep))
