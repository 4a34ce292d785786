from bench.suites import SUITES
from bench.worlds import World


def test_smoke_task_has_every_role(world: World) -> None:
    (task,) = SUITES.get("smoke").tasks(world)
    assert (len(task.forget), len(task.in_domain), len(task.out_of_domain)) == (1, 2, 2)
    assert world.domain_of(task.in_domain[0]) == world.domain_of(task.forget[0])
    assert world.domain_of(task.out_of_domain[0]) != world.domain_of(task.forget[0])
