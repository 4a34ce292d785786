import dataclasses
import itertools
import re
import shutil
from pathlib import Path

import pytest

from bench.core.config import RunConfig
from bench.core.filenames import MAX_STEM
from bench.plan.board_name import board_name, by_content
from bench.plan.plan import Plan, resolve
from bench.worlds import World

SAFE = re.compile(r"[a-z0-9][a-z0-9.+_-]*")


def planned(**changes: object) -> Plan:
    return resolve(RunConfig(**{"world": "tiny", "suite": "smoke", **changes}))  # type: ignore[arg-type]


def name(**changes: object) -> str:
    return board_name(planned(**changes))


def renamed(**changes: object) -> str:
    """The name of a board whose settings nobody checks: names of concepts, judges and others may be anything."""
    plan = planned()
    return board_name(dataclasses.replace(plan, run=dataclasses.replace(plan.run, **changes)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"suite": "finegrained"}, "finegrained-tiny"),
        ({"suite": "noise-ablation"}, "noise-ablation-tiny"),
        ({"suite": "finegrained", "quick": True}, "finegrained-tiny-quick"),
        ({"suite": "multi", "several": (2, 4)}, "multi-tiny-k2+4"),
        ({"suite": "finegrained", "forget": ("red rose",)}, "finegrained-tiny-red-rose"),
        ({"suite": "sequential", "forget": ("toucan", "tulip")}, "sequential-tiny-toucan+tulip"),
        ({"suite": "noise-ablation", "sweep": {"mimmu": {"target": ("null", "rest")}}},
         "noise-ablation-tiny-sweep-mimmu.target"),
        ({"neighbours": "3"}, "smoke-tiny-neighbours-3"),
        ({"clip": "none"}, "smoke-tiny-clip-none"),
        ({"compile": True}, "smoke-tiny-compile"),
    ],
)  # fmt: skip
def test_names_say_what_was_run(world: World, changes: dict, expected: str) -> None:
    assert renamed(**changes) == expected


def test_methods_seeds_metrics_and_curves_make_no_other_board(world: World) -> None:
    changes = {"methods": ("salun",), "seeds": (0, 1), "metrics": ("ua",), "curve": 2, "force": True, "sample_batch": 3}
    assert name(**changes) == name() == "smoke-tiny"


def test_changed_settings_are_in_the_name(world: World) -> None:
    assert name(overrides={"protocol": {"guidance_scale": "2"}}) == "smoke-tiny-protocol.guidance_scale-2.0"
    assert name(overrides={"mimmu": {"lr": "1e-4"}}) == "smoke-tiny-mimmu.lr-0.0001"


def test_a_setting_that_is_set_to_its_usual_value_is_not_in_the_name(world: World) -> None:
    plan = planned()
    config = next(cell.config for cell in plan.cells if cell.method == "mimmu")
    same = {"protocol": {"guidance_scale": f"{plan.protocol.guidance_scale:.3f}"}, "mimmu": {"lr": str(config.lr)}}
    assert name(overrides=same) == "smoke-tiny"


def test_names_do_not_depend_on_the_order_or_spelling_of_settings(world: World) -> None:
    one = {"mimmu": {"lr": "1e-4"}, "protocol": {"guidance_scale": "2", "forget_images": "4"}}
    other = {"protocol": {"forget_images": "4", "guidance_scale": "2.0"}, "mimmu": {"lr": "0.0001"}}
    assert name(overrides=one) == name(overrides=other)


def test_a_backbone_is_named_by_its_content(world: World, pipeline_folder: Path, tmp_path: Path) -> None:
    one, other, same = (tmp_path / parent / "unet" for parent in ("a", "b", "c"))
    for folder in (one, other, same):
        shutil.copytree(pipeline_folder, folder)
    config = other / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text().replace("0.012", "0.013"))
    names = [name(backbone=str(folder)) for folder in (one, other, same)]
    assert all(re.fullmatch(r"smoke-tiny-unet-[0-9a-f]{8}", each) for each in names)
    assert names[0] == names[2] != names[1]  # a copy elsewhere is the same backbone
    assert name() not in names


def test_judges_are_named_by_their_content(world: World, tmp_path: Path) -> None:
    files = [tmp_path / folder / "judge.safetensors" for folder in ("a", "b", "c")]
    for file, content in zip(files, ("one", "other", "one"), strict=True):
        file.parent.mkdir()
        file.write_text(content)
    for form in ("{}", "birds={}", "open_clip:ViT-B-32/{}"):
        names = [renamed(judges=(form.format(file),)) for file in files]
        assert names[0] == names[2] != names[1]
        assert all("judge.safetensors-" in each and str(tmp_path.name) not in each for each in names)
    assert by_content("birds=some/model") == ["birds=some/model"]


VARIANTS: list[dict] = [
    {},
    {"compile": True},
    {"several": (2,)},
    {"several": (2, 4)},
    {"several": (24,)},
    *({"neighbours": value} for value in ("2", "all")),
    *({"clip": value} for value in ("none", "ViT-B-32/openai", "ViT-B/32-openai", "vit-b-32/openai")),
    *({"judges": value} for value in (("a",), ("a", "b"), ("a-b",), ("birds=a",), ("birds-a",), ("dogs=a",))),
    *({"forget": value} for value in (("quick",), ("tulip quick",), ("tulip",), ("compile",), ("k2",), ("k2+4",))),
    *({"forget": value} for value in (("a b", "c"), ("a", "b c"), ("a", "b", "c"), ("a b c",), ("a-b", "c"))),
    *({"forget": value} for value in (("A",), ("a",), ("ä",), ("ö",), ("a/b",), ("..",), ("cells",), ("clip none",))),
    *({"forget": value} for value in (("neighbours 2",), ("sweep mimmu.lr",), ("judge a",), ("protocol.x-1",))),
    *({"sweep": {"mimmu": {key: ("1", "2")}}} for key in ("lr", "t_max")),
    {"sweep": {"mimmu": {"lr": ("1", "2"), "t_max": ("1", "2")}}},
    *({"overrides": {"mimmu": {"lr": value}}} for value in ("1e-4", "2e-4")),
    *({"overrides": {"protocol": {"guidance_scale": value}}} for value in ("1", "2")),
    {"overrides": {"protocol": {"noise_seeds": "(1, 2)", "images_per_prompt": "1"}}},
    {"overrides": {"protocol": {"noise_seeds": "(12,)", "images_per_prompt": "1"}}},
    *({"forget": tuple(f"concept{i}{last}" for i in range(40))} for last in "ab"),
]


def test_names_are_distinct_safe_and_short(world: World) -> None:
    names = {}
    for changes, quick in itertools.product(VARIANTS, (False, True)):
        settings = changes.get("overrides", {})
        plan = planned(overrides=settings)
        run = dataclasses.replace(plan.run, **{"quick": quick, **changes})
        names[str({"quick": quick, **changes})] = board_name(dataclasses.replace(plan, run=run))
    assert len(set(names.values())) == len(names)
    for each in names.values():
        assert SAFE.fullmatch(each)
        assert len(each) <= MAX_STEM + len("-quick")
        assert not re.search(r"-(cells|concepts|curve|recovery)$", each)  # `X.csv` would be a file of another board


def test_names_are_stable(world: World) -> None:
    assert renamed(forget=("A/b",)) == renamed(forget=("A/b",)) == "smoke-tiny-a-b-" + renamed(forget=("A/b",))[-8:]
    long = tuple(f"concept {i}" for i in range(40))
    assert renamed(forget=long).startswith("smoke-tiny-concept-0+concept-1+")


def test_the_reference_boards_keep_their_names() -> None:
    shipped = {file.stem for file in (Path(__file__).parents[2] / "leaderboards" / "reference").glob("*.md")}
    assert "finegrained" in {stem.removesuffix("-pocket") for stem in shipped}
    suites = ("finegrained", "multi", "noise-ablation", "object", "resurgence", "sequential", "style")
    names = {board_name(resolve(RunConfig(suite=suite))) for suite in suites}
    sweep = {"mimmu": {"target": ("null", "rest")}}
    names.add(board_name(resolve(RunConfig(methods=("mimmu",), suite="noise-ablation", sweep=sweep))))
    assert names == shipped
