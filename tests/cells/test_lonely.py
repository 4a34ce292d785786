"""Worlds in which a forgotten concept has no neighbours, or nothing outside of its domain: every room goes on."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from support.tiny import variant

from bench.commands import main
from bench.suites import SUITES, Request
from bench.suites.neighbours import nearest_neighbour
from bench.suites.styles import object_tasks
from bench.worlds import WORLDS, World

pytestmark = pytest.mark.usefixtures("plugged")

NEAR, FAR = ("nra", "twin", "pid_shared"), ("ora",)  # metrics of the concepts of the domain, and of others
TABLES = ("-cells", "-concepts", "-curve")
RETAINED = ("fid", "kid", "clip", "drift", "drift_latent")


def small(world: World, name: str, **sizes: int) -> World:
    """The tiny world with the first few concepts of some of its domains."""
    domains = {domain: world.domains[domain][:size] for domain, size in sizes.items()}
    made = variant(world, name=name, domains=domains)
    WORLDS.add(name, made)
    return made


def run(name: str, out: Path, *more: str) -> pd.DataFrame:
    given = ("--world", name, "--methods", "mimmu", "--workers", "1", "--out", str(out))
    assert main.main([*given, *more]) == 0
    suite = more[more.index("--suite") + 1]
    (file,) = (file for file in out.glob(f"{suite}-{name}*.csv") if not file.stem.endswith(TABLES))
    return pd.read_csv(file).set_index("method")


@pytest.mark.parametrize(
    ("sizes", "blank"),
    [
        pytest.param({"dog": 1, "flower": 3}, NEAR, marks=pytest.mark.huge),
        pytest.param({"dog": 4}, FAR, marks=pytest.mark.huge),
        ({"dog": 1}, (*NEAR, *FAR, *RETAINED)),
    ],
    ids=["a domain of one concept", "one domain", "one concept"],
)
def test_run_with_all_metrics_in_domains_of_one_concept(
    sizes: dict[str, int], blank: tuple[str, ...], world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small(world, "lonely", **sizes)
    board = run("lonely", tmp_path, "--suite", "smoke", "--curve", "2")
    assert board["status"].eq("ok").all()
    measured = {"ua", "mi", "plausible_domain", *NEAR, *FAR, *RETAINED} - {"pid_shared"}
    for name in measured:
        assert board[name].isna().all() == (name in blank), name
        assert board[f"{name}_n"].isna().all() == (name in blank), name
    assert board["pid_shared"].isna().all() == ("nra" in blank)
    assert board["h"].isna().all()
    cells = pd.read_csv(tmp_path / "smoke-lonely-cells.csv")
    assert cells["status"].eq("ok").all()
    points = pd.read_csv(tmp_path / "smoke-lonely-curve.csv")
    assert len(points) == 3
    assert points["nra"].isna().all() == ("nra" in blank)
    told = capsys.readouterr().out
    assert "<NA>" not in told
    assert "nan" not in told.lower()
    for end in ("md", "html"):
        text = (tmp_path / f"smoke-lonely.{end}").read_text()
        assert "<NA>" not in text
    assert "mimmu" in (tmp_path / "smoke-lonely.md").read_text()


def test_world_without_reference_images_has_a_board_without_distances_from_them(world: World, tmp_path: Path) -> None:
    WORLDS.add("lonely", variant(world, name="lonely", reference=lambda concept, count: torch.empty(0, 3, 0, 0).byte()))
    few = ("protocol.num_inference_steps=2", "protocol.images_per_concept=1", "protocol.probe_timesteps=2")
    board = run("lonely", tmp_path, "--suite", "smoke", "--quick", "--set", *few, "mimmu.epochs=1")
    assert board["status"].eq("ok").all()
    assert board[["fid", "kid", "pid_unique"]].isna().all(axis=None)
    assert board[["ua", "nra", "ora", "drift"]].notna().all(axis=None)
    (page,) = tmp_path.glob("*.html")
    assert "<NA>" not in page.read_text()


def test_board_of_different_domains_has_ripples_and_no_h(world: World, tmp_path: Path) -> None:
    small(world, "lonely", dog=1, flower=3, bird=2)
    named = ("golden retriever", "red rose")
    less = ("--metrics", "ua", "nra", "ora", "twin", "--set", "protocol.num_inference_steps=2", "mimmu.epochs=1")
    given = ("--world", "lonely", "--methods", "mimmu", "--workers", "1", "--out", str(tmp_path))
    assert main.main([*given, "--suite", "finegrained", "--forget", *named, *less]) == 0
    (file,) = tmp_path.glob("finegrained-lonely-*-cells.csv")
    cells = pd.read_csv(file).set_index(["method", "task"])
    assert cells["nra"].isna().groupby("task").all().to_dict() == {"golden retriever": True, "red rose": False}
    board = pd.read_csv(str(file).replace("-cells", "")).set_index("method")
    assert board["nra"].notna().all()  # over the task that has neighbours
    assert board["h"].isna().all()
    assert board["ripple"].notna().all()


def test_suites_take_worlds_whose_domains_have_one_concept(world: World) -> None:
    lonely = small(world, "lonely", dog=1, flower=4, bird=5)
    finegrained, resurgence = SUITES.get("finegrained"), SUITES.get("resurgence")
    (task,) = finegrained.tasks(lonely, Request(("golden retriever",)))
    assert (task.in_domain, len(task.out_of_domain)) == ((), 9)
    assert [t.band for t in finegrained.tasks(lonely, Request(("red rose", "golden retriever")))][1] == ""
    probes = resurgence.tasks(lonely, Request(("golden retriever", "red rose")))
    assert {t.in_domain for t in probes if t.forget == ("golden retriever",)} == {()}
    assert all(len(t.in_domain) == 1 for t in probes if t.forget == ("red rose",))
    assert {t.forget[0] for t in object_tasks(lonely)} >= {"golden retriever"}
    with pytest.raises(ValueError, match="fewer than three concepts"):
        finegrained.tasks(lonely)
    with pytest.raises(ValueError, match="'golden retriever' is the only concept of its domain"):
        nearest_neighbour(lonely, "golden retriever")
