"""Suites about styles go the whole way: two judges, prompts by turns, what is left of a prompt without its style."""

from pathlib import Path

import pandas as pd
from safetensors.torch import load_file
from support.boards import only

from bench.commands import main
from bench.worlds import World

SMALL = ("--set", "protocol.images_per_concept=1", "protocol.num_inference_steps=1", "protocol.forget_images=2")
MIMMU = ("mimmu.epochs=1", "mimmu.batch_size=2")


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


def test_a_style_is_forgotten_and_judged_by_the_judge_of_styles(world: World, tmp_path: Path) -> None:
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


def test_a_species_is_forgotten_in_every_style(world: World, tmp_path: Path) -> None:
    concepts = run("object", tmp_path)
    tasks = concepts["task"].unique()
    assert len({world.domain_of(task) for task in tasks}) == len(tasks) == 3
    kept = concepts[(concepts["method"] == "mimmu") & (concepts["role"] == "out_of_domain")]
    assert kept["concept"].tolist() == [*world.styles] * 3
    references = [load_file(p)["features"] for p in (tmp_path / ".store" / "reference").glob("*/tensors.safetensors")]
    assert len(references) == 15 + 3
