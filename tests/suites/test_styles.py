from pathlib import Path

import pandas as pd
import pytest
from safetensors.torch import load_file
from support.boards import only
from support.tiny import variant

from bench.commands import main
from bench.suites import SUITES
from bench.suites.styles import object_tasks
from bench.worlds import World

SMALL = ("--set", "protocol.images_per_concept=1", "protocol.num_inference_steps=1", "protocol.forget_images=2")
MIMMU = ("mimmu.epochs=1", "mimmu.batch_size=2")


@pytest.fixture
def graded(world: World) -> World:
    """A world of a domain of five letters whose closeness is known, and of a domain of three digits."""
    pairs = {frozenset("ab"): 0.9, frozenset("cd"): 0.4, frozenset("ac"): 0.1, frozenset("ce"): 0.65}
    domains = {"letter": tuple("abcde"), "digit": tuple("123")}
    return variant(
        world,
        domains=domains,
        closeness=lambda a, b: pairs.get(frozenset((a, b)), 0.0),
        styles=("plain",),
        all_styles_view=lambda: None,
    )


def test_style_forgets_each_style_but_the_plain_one(graded: World) -> None:
    styled = variant(graded, styles=("plain", "sketch", "neon"))
    sketch, neon = SUITES.get("style").tasks(styled)
    assert (sketch.forget, sketch.in_domain, sketch.out_of_domain) == (("sketch",), ("plain", "neon"), styled.concepts)
    assert neon.forget == ("neon",)
    with pytest.raises(ValueError, match="fewer than two styles"):
        SUITES.get("style").tasks(graded)


def test_object_forgets_concepts_that_no_prompt_about_a_style_names(graded: World) -> None:
    styled = variant(
        graded, styles=("plain", "sketch"), prompts=lambda split, concept: (f"{concept} of a", f"{concept} of the d, 2")
    )
    tasks = object_tasks(styled)
    # a and d are named; of b .9, c .65, e .65 and of 1, 3, both 0, the closest, or the last by name
    assert [task.name for task in tasks] == ["b", "3"]
    assert tasks[0].in_domain == ("a", "c", "d", "e")
    assert tasks[0].out_of_domain == styled.styles
    assert [t.name for t in object_tasks(variant(styled, tuning_concepts=("b", "3")))] == ["e", "1"]


def test_object_needs_a_world_of_several_styles(graded: World) -> None:
    with pytest.raises(ValueError, match="has only one"):
        SUITES.get("object").tasks(graded)


def run(suite: str, out: Path, *settings: str) -> pd.DataFrame:
    arguments = [
        "--world",
        "tiny",
        "--suite",
        suite,
        "--methods",
        "mimmu",
        "--workers",
        "1",
        "--out",
        str(out),
        *SMALL,
        *MIMMU,
    ]
    assert main.main([*arguments, *settings]) == 0
    return pd.read_csv(only(out, "-concepts.csv"))


def test_run_of_style_judges_styles(world: World, tmp_path: Path) -> None:
    concepts = run("style", tmp_path, "mimmu.target=rest")
    assert concepts["task"].unique().tolist() == ["sketch", "neon"]
    roles = concepts[(concepts["method"] == "mimmu") & (concepts["task"] == "neon")].set_index("concept")["role"]
    assert roles.to_dict() == {
        "neon": "forget", "photo": "in_domain", "sketch": "in_domain", **dict.fromkeys(world.concepts, "out_of_domain")
    }  # fmt: skip
    board = pd.read_csv(only(tmp_path)).set_index("method")
    assert (board["status"] == "ok").all()
    assert board["plausible_domain"].isna().all()  # a judge of styles sees a style in anything
    assert board.loc["mimmu", "compensation"] == "anchor prompts"
    assert board.loc["pretrained", ["nra_n", "ora_n"]].tolist() == [2 * 2, 2 * 15]


@pytest.mark.huge
def test_run_of_object_keeps_every_style(world: World, tmp_path: Path) -> None:
    concepts = run("object", tmp_path)
    tasks = concepts["task"].unique()
    assert len({world.domain_of(task) for task in tasks}) == len(tasks) == 3
    kept = concepts[(concepts["method"] == "mimmu") & (concepts["role"] == "out_of_domain")]
    assert kept["concept"].tolist() == [*world.styles] * 3
    references = [load_file(p)["features"] for p in (tmp_path / ".store" / "reference").glob("*/tensors.safetensors")]
    assert len(references) == 15 + 3
