import pytest

from bench import workers
from bench.config import RunConfig
from bench.plan import resolve
from bench.worlds import World


def test_neighbouring_cells_forget_different_concepts(world: World) -> None:
    plan = resolve(RunConfig(world="tiny", methods=("mimmu", "salun")))
    order = workers.in_blocks(plan, 2)
    assert sorted(order) == list(range(len(plan.cells)))
    names = [(plan.cells[i].task.name, plan.cells[i].method) for i in order]
    first, second = plan.tasks[0].name, plan.tasks[1].name
    assert names[:8] == [
        (task, method) for method in ("pretrained", "wrecked", "mimmu", "salun") for task in (first, second)
    ]
    assert workers.in_blocks(plan, 1) == list(range(len(plan.cells)))


def test_there_are_no_more_workers_than_tasks_cores_or_room_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def count(cores: int, suite: str) -> int:
        monkeypatch.setattr(workers.os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
        return workers.usual_count(resolve(RunConfig(world="tiny", suite=suite)))

    monkeypatch.setattr(workers.torch.cuda, "is_available", lambda: False)
    assert [count(n, "finegrained") for n in (1, 2, 64)] == [1, 2, workers.MOST]
    assert count(2, "smoke") == 1
    monkeypatch.setattr(workers.torch.cuda, "is_available", lambda: True)
    assert count(64, "finegrained") == 1
