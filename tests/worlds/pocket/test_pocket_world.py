"""The pocket world as a world, and the main job on its committed weights."""

from pathlib import Path
from statistics import mean

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.boards import only

from bench.commands import main, tune
from bench.core import overrides
from bench.suites import SUITES
from bench.suites.neighbours import nearest_neighbour
from bench.worlds import WORLDS, World
from bench.worlds.base import SPLITS
from bench.worlds.pocket import weights
from bench.worlds.pocket.drawing import captions
from bench.worlds.pocket.drawing.species import SPECIES
from bench.worlds.pocket.world import NOT_SEARCHED, PRESETS
from methods import METHODS


@pytest.fixture(scope="module")
def pocket() -> World:
    return WORLDS.get("pocket")


def test_prompts_of_concepts_differ_in_the_name_alone(pocket: World) -> None:
    for split in ("forget", "evaluate"):
        first = pocket.prompts(split, "poodle")
        assert len(set(first)) == len(first) >= 3
        assert tuple(p.replace("tulip", "poodle") for p in pocket.prompts(split, "tulip")) == first
        for concept in pocket.concepts:
            assert all(concept in prompt for prompt in pocket.prompts(split, concept))


def test_real_pictures_are_the_same_each_time(pocket: World) -> None:
    three = pocket.reference("tulip", 3)
    assert three.shape == (3, 3, 64, 64)
    assert three.dtype == torch.uint8
    assert torch.equal(pocket.reference("tulip", 2), three[:2])
    assert not torch.equal(three[0], three[1])


@pytest.mark.parametrize("method", sorted(WORLDS.get("pocket").presets))
def test_presets_are_settings_of_registered_methods(pocket: World, method: str) -> None:
    changed = overrides.apply(METHODS.get(method).Config(), pocket.presets[method], method)
    assert changed != METHODS.get(method).Config()


def test_closeness_comes_from_the_committed_encoder(pocket: World) -> None:
    for a in pocket.concepts:
        assert pocket.closeness(a, a) == 1
        for b in pocket.concepts:
            assert -1 <= pocket.closeness(a, b) <= 1
            assert pocket.closeness(a, b) == pocket.closeness(b, a)
    # single pairs go either way; on average a twin is nearer than a sibling, a sibling nearer than a stranger
    pairs = [(a, b) for a in pocket.concepts for b in pocket.concepts if a != b]
    twins = [pocket.closeness(a, b) for a, b in pairs if SPECIES[a].twin == b]
    siblings = [pocket.closeness(a, b) for a, b in pairs if pocket.domain_of(a) == pocket.domain_of(b)]
    strangers = [pocket.closeness(a, b) for a, b in pairs if pocket.domain_of(a) != pocket.domain_of(b)]
    assert mean(twins) > mean(siblings) + 0.1 > mean(strangers) + 0.1


def test_finegrained_targets_run_from_lonely_to_twin(pocket: World) -> None:
    tasks = SUITES.get("finegrained").tasks(pocket)
    assert [task.band for task in tasks] == ["far", "middle", "near"] * 3
    for start in (0, 3, 6):
        close = [nearest_neighbour(pocket, task.forget[0])[1] for task in tasks[start : start + 3]]
        assert close == sorted(close)
        assert close[2] - close[0] > 0.1


def test_judges_know_every_concept(pocket: World) -> None:
    for concept in (*pocket.concepts, *pocket.styles):
        judge = pocket.judge(pocket.judge_of(concept), torch.device("cpu"))
        assert concept in judge.labels
    pictures = torch.cat([pocket.reference(concept, 4) for concept in pocket.concepts]).float() / 255
    judge = pocket.judge("species", torch.device("cpu"))
    with torch.no_grad():
        judged = [judge.labels[i] for i in judge.module(pictures).argmax(1).tolist()]
    right = [judged[i] == concept for i, concept in enumerate(c for c in pocket.concepts for _ in range(4))]
    assert sum(right) / len(right) > 0.95


@pytest.mark.world_run
def test_the_main_job_runs_on_the_committed_model(tmp_path: Path) -> None:
    """A method that trains, three that act while images are sampled, and a finished model."""
    keys = load_file(weights.WEIGHTS / "pipeline" / "unet" / "diffusion_pytorch_model.safetensors")
    half = {name: tensor / 2 for name, tensor in keys.items() if name.endswith("attn2.to_k.weight")}
    save_file(half, tmp_path / "theirs.safetensors")
    acting = ["negative-prompt", "sld", "safree"]
    words = ["--methods", "mimmu", *acting, "--models", f"theirs={tmp_path}/theirs.safetensors"]
    assert main.main([*words, "--suite", "smoke", "--quick", "--out", str(tmp_path)]) == 0
    board = pd.read_csv(tmp_path / "smoke-pocket-quick.csv").set_index("method")
    assert board.index.tolist() == ["pretrained", "wrecked", "mimmu", *acting, "theirs"]
    assert (board["status"] == "ok").all()
    assert board.loc[["theirs", *acting], "steps"].fillna(0).eq(0).all()
    assert board.loc["theirs", "changed"].startswith(f"U-Net: {len(half)} of {len(keys)} tensors")
    assert board.loc["negative-prompt", "drift"] > 0
    assert board.loc["pretrained", ["nra", "ora"]].min() > 60  # the model draws what it is asked for
    assert board.loc["wrecked", ["nra", "ora"]].max() < 40
    assert board.loc["pretrained", "fid"] < board.loc["wrecked", "fid"]
    assert board["fid_extractor"].unique().tolist() == ["pocket-64"]


@pytest.mark.huge
def test_workers_find_what_one_process_finds(tmp_path: Path) -> None:
    small = ["--set", "protocol.images_per_concept=1", "protocol.num_inference_steps=2", "protocol.forget_images=4"]
    small += ["protocol.reference_per_concept=3", "mimmu.epochs=1", "--methods", "mimmu", "--suite", "smoke"]
    small += ["--seeds", "2"]
    boards = {}
    for count in ("1", "2"):
        assert main.main([*small, "--workers", count, "--out", str(tmp_path / count)]) == 0
        frame = pd.read_csv(only(tmp_path / count, "-cells.csv"))
        boards[count] = frame[["method", "task", "seed", "status", "ua", "nra", "ora", "fingerprint"]]
    pd.testing.assert_frame_equal(boards["1"], boards["2"])


def test_what_is_left_of_a_prompt_without_the_species_names_its_domain(pocket: World) -> None:
    for concept in pocket.concepts:
        assert pocket.superclass_prompts(concept) == pocket.superclass_prompts(concept, "forget")
        assert pocket.bare_name(concept) == concept
        for split in SPLITS:
            asked, rest = pocket.prompts(split, concept), pocket.superclass_prompts(concept, split)
            noun = pocket.domain_of(concept)
            assert len(rest) == len(asked)
            for whole, part in zip(asked, rest, strict=True):
                assert concept not in part
                before, after = part.split(noun)
                assert whole.endswith(after)
                assert whole.startswith(before.removesuffix("a ").removesuffix("an "))


def test_styles_are_asked_for_with_species(pocket: World) -> None:
    for split in ("forget", "evaluate"):
        sketch = pocket.prompts(split, "sketch")
        assert len(set(sketch)) == len(sketch) >= 12
        assert tuple(p.replace("mosaic", "sketch") for p in pocket.prompts(split, "mosaic")) == sketch
        assert len({concept for concept in pocket.concepts for p in sketch if concept in p}) == 12
    plain = tuple(p.replace("mosaic", "photo") for p in pocket.prompts("forget", "mosaic"))
    assert pocket.superclass_prompts("mosaic") == plain == pocket.prompts("forget", "photo")
    assert pocket.superclass_prompts("mosaic", "evaluate") == pocket.prompts("evaluate", "photo")
    assert pocket.superclass_prompts("photo") == pocket.superclass_prompts("photo", "evaluate") == ()
    assert pocket.bare_name("neon") == "neon sign"
    real = pocket.reference("sketch", 13)
    assert torch.equal(pocket.reference("sketch", 2), real[:2])
    judge = pocket.judge("style", torch.device("cpu"))
    assert [judge.labels[i] for i in judge.module(real.float() / 255).argmax(1)] == ["sketch"] * 13


def test_across_styles_every_species_is_asked_for_in_each(pocket: World) -> None:
    across = pocket.all_styles_view()
    assert across is not None
    assert across.name == pocket.name
    for split in ("forget", "evaluate"):
        tulip = across.prompts(split, "tulip")
        assert {style for style in pocket.styles for p in tulip if captions.STYLE_NOUNS[style] in p} == {*pocket.styles}
        assert tuple(p.replace("tulip", "daisy") for p in tulip) == across.prompts(split, "daisy")
        assert across.prompts(split, "neon") == pocket.prompts(split, "neon")
        assert tuple(p.replace("tulip", "flower") for p in tulip) == across.superclass_prompts("tulip", split)
    real = across.reference("tulip", 12)
    judge = across.judge("style", torch.device("cpu"))
    assert [judge.labels[i] for i in judge.module(real.float() / 255).argmax(1)] == [*pocket.styles] * 2


def test_rates_are_those_the_search_found(pocket: World) -> None:
    table = pd.read_csv(Path(__file__).parents[3] / "leaderboards" / "reference" / "tuning-pocket.csv")
    best = table[table["best"] == "yes"].set_index("method")["lr"]
    assert best.to_dict() == {name: settings["lr"] for name, settings in PRESETS.items()}
    assert pocket.presets.keys() == PRESETS.keys() | NOT_SEARCHED.keys()
    assert tune.chosen(table)["best"].tolist() == table["best"].fillna("").tolist()  # by the rule


def test_no_board_forgets_what_presets_are_tuned_on(pocket: World) -> None:
    tuned_on = {task.name for task in SUITES.get("search").tasks(pocket)}
    assert len(tuned_on) == 2
    for name in ("finegrained", "style", "object"):
        suite = SUITES.get(name)
        assert not tuned_on & {task.name for task in suite.tasks(pocket)}


def test_objects_are_forgotten_that_no_prompt_about_a_style_names(pocket: World) -> None:
    tasks = SUITES.get("object").tasks(pocket)
    assert len({pocket.domain_of(task.name) for task in tasks}) == len(tasks) == 3
    for task in tasks:
        assert task.out_of_domain == pocket.styles
        assert set(task.in_domain) == {*pocket.domains[pocket.domain_of(task.name)]} - {task.name}
        asked = [p for style in pocket.styles for split in SPLITS for p in pocket.prompts(split, style)]
        assert not any(task.name in prompt for prompt in asked)
