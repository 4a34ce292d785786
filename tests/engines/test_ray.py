"""The Ray engine: its rules here, and itself on a cluster of two nodes, one of which is lost (marker `ray`)."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from bench import cli
from bench.config import RunConfig
from bench.engines import Settings
from bench.engines.ray import NAMESPACE, Ray
from bench.executor import Executor
from bench.plan import resolve
from bench.runs import RunFolder
from bench.units import units

METRICS = ("ua", "nra", "drift")
ROOT = Path(__file__).parents[2]


def test_settings_that_make_no_sense_are_refused() -> None:
    pytest.importorskip("ray")
    assert Ray(Settings(options={"address": "head:6379", "num_gpus": "0.5"})).needs == {"num_gpus": 0.5}
    with pytest.raises(ValueError, match=r"--ray num_gpus=many: no numbers"):
        Ray(Settings(options={"num_gpus": "many"}))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield made
    import ray

    ray.shutdown()
    made.shutdown()


def wait_for(what: Callable[[], bool], shell: subprocess.Popen[str], seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert shell.poll() is None, shell.communicate()[0]
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.1)


@pytest.mark.ray
def test_a_node_is_lost_and_the_board_is_that_of_this_machine(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import ray

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    ray.init(cluster.address, log_to_driver=False)
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    words = [
        "--methods",
        "mimmu",
        "--suite",
        "smoke",
        "--metrics",
        *METRICS,
        "--set",
        "mimmu.epochs=40",
        "--out",
        str(tmp_path / "far"),
    ]
    far = [*words, "--executor", "ray", "--ray-address", cluster.address]
    run = RunConfig(("mimmu",), "smoke", metrics=METRICS, overrides={"mimmu": {"epochs": "40"}}, out=tmp_path / "far")
    plan = resolve(run)
    executor, folder = Executor(plan), RunFolder(plan.run)
    victim = next(i for i, unit in enumerate(units(plan)) if unit.cell == 2)
    delta = executor.stages.store.place("deltas", executor.stages.keys.delta(plan.cells[2]))
    lease = tmp_path / "far" / ".store" / ".leases" / f"deltas-{delta.name}"
    log = folder.logs / f"{victim}.txt"

    door = [sys.executable, "-u", "run_bench.py", *far]
    shell = subprocess.Popen(door, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        wait_for(lambda: any(folder.logs.glob("*.txt")), shell)
        ray.kill(ray.get_actor(f"lethe-{folder.id}", NAMESPACE), no_restart=False)  # as if its own node were lost
        wait_for(lease.exists, shell)
        above = {parent.pid for parent in psutil.Process(int(log.read_text().split()[1])).parents()}
        (lost,) = [n for n in nodes if {p.process.pid for ps in n.all_processes.values() for p in ps} & above]
        cluster.remove_node(lost, allow_graceful=False)
        told = shell.communicate(timeout=240)[0]
    finally:
        shell.kill()
    assert shell.returncode == 0, told
    assert log.read_text().count(" begins ") == 2
    assert log.read_text().count("done ") == 1

    files = ["smoke-pocket.csv", "smoke-pocket-cells.csv", "smoke-pocket-concepts.csv", "smoke-pocket.json"]
    before = {name: (tmp_path / "far" / name).read_bytes() for name in files}
    assert cli.main([*words, "--collect"]) == 0
    assert {name: (tmp_path / "far" / name).read_bytes() for name in files} == before
    assert pd.read_csv(tmp_path / "far" / "smoke-pocket-cells.csv")["status"].tolist() == ["ok"] * 3
    capsys.readouterr()
    assert cli.main([*far, "--attach"]) == 2
    assert "no run of this command goes on" in capsys.readouterr().out
