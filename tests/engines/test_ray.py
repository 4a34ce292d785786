"""The Ray engine: its rules here, and itself on a cluster of two nodes, one of which is lost (marker `ray`)."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
from support.afar import LITTLE, OTHER_KIND, WORDS, Afar, wait_for
from support.boards import only

from bench.commands import main
from bench.engines import Settings
from bench.engines.ray import Ray
from bench.engines.ray_actor import NAMESPACE

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


@pytest.mark.ray
def test_a_node_is_lost_and_the_board_is_that_of_this_machine(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import ray

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    ray.init(cluster.address, log_to_driver=False)
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    words = [*WORDS, "--out", str(tmp_path / "far")]
    far = [*words, "--executor", "ray", "--ray-address", cluster.address]
    run = Afar(tmp_path / "far")
    log = run.folder.logs / f"{run.victim}.txt"

    door = [sys.executable, "-u", "run_bench.py", *far]
    shell = subprocess.Popen(door, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        wait_for(lambda: any(run.folder.logs.glob("*.txt")), shell)
        ray.kill(ray.get_actor(f"lethe-{run.folder.id}", NAMESPACE), no_restart=False)  # as if its own node were lost
        wait_for(run.lease.exists, shell)
        above = {parent.pid for parent in psutil.Process(int(log.read_text().split()[1])).parents()}
        (lost,) = [n for n in nodes if {p.process.pid for ps in n.all_processes.values() for p in ps} & above]
        cluster.remove_node(lost, allow_graceful=False)
        told = shell.communicate(timeout=480)[0]
    finally:
        shell.kill()
    assert shell.returncode == 0, told
    assert log.read_text().count(" begins ") == 2
    assert log.read_text().count("done ") == 1

    before = run.board()
    assert main.main(["collect", *words]) == 0
    assert run.board() == before
    assert pd.read_csv(only(tmp_path / "far", "-cells.csv"))["status"].tolist() == ["ok"] * 3
    capsys.readouterr()
    assert main.main([*far, "--attach"]) == 2
    assert "no run of this command goes on" in capsys.readouterr().out
    (other,) = (node for node in nodes if node is not lost)
    cluster.remove_node(other)
    ray.shutdown()


@pytest.mark.huge
@pytest.mark.ray
def test_a_node_of_another_kind_leaves_its_cells_to_the_other(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import ray

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    words = [*LITTLE, "--plugin", OTHER_KIND]
    afar = ["--executor", "ray", "--ray-address", cluster.address, "--retries", "0"]
    one, other = (cluster.add_node(num_cpus=1, env_vars={"LETHE_TEST_NODE": name}) for name in ("n1", "n2"))
    try:
        code = main.main([*words, "--out", str(tmp_path / "one"), *afar])
        assert code == 0, capsys.readouterr().out
        cluster.remove_node(one)  # what is left is of another kind than this host
        assert main.main([*words, "--out", str(tmp_path / "none")]) == 0
        code = main.main([*words, "--out", str(tmp_path / "none"), "--seeds", "2", *afar])
        assert code == 1, capsys.readouterr().out
    finally:
        cluster.remove_node(other)
        ray.shutdown()
    assert pd.read_csv(only(tmp_path / "one", "-cells.csv"))["status"].tolist() == ["ok"] * 3
    said = "".join(file.read_text() for file in tmp_path.glob("one/.store/runs/*/logs/*.txt"))
    assert 0 < said.count("refused ") < 3  # by whichever came second
    cells = pd.read_csv(only(tmp_path / "none", "-cells.csv")).set_index("seed")
    assert cells.loc[0, "status"].tolist() == ["ok"] * 3
    assert cells.loc[1, "reason"].str.contains("this worker is on another card").all(), cells["reason"].tolist()


@pytest.mark.huge
@pytest.mark.ray
def test_where_memory_ends_cells_are_tried_so_often_and_no_more(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import ray

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    full = {"RAY_memory_usage_threshold": "0.01", "RAY_memory_monitor_refresh_ms": "100"}  # as if memory were used up
    node = cluster.add_node(num_cpus=1, env_vars=full)
    try:
        code = main.main([*LITTLE, "--out", str(tmp_path), "--executor", "ray", "--ray-address", cluster.address])
    finally:
        cluster.remove_node(node)
        ray.shutdown()
    assert code == 1, capsys.readouterr().out
    cells = pd.read_csv(only(tmp_path, "-cells.csv"))
    assert cells["status"].tolist() == ["failed"] * 3
    assert cells["reason"].str.contains(r"OutOfMemoryError\) \(tried 2 times\)").all(), cells["reason"].tolist()
