"""A run in pieces for workers far from each other."""

from pathlib import Path

from bench.core.config import RunConfig
from bench.plan.plan import Plan, resolve
from bench.plan.work_graph import predecessors, side_by_side, signature, waves, work_items
from bench.worlds import World


def planned(*methods: str, suite: str = "finegrained", **more: object) -> Plan:
    return resolve(RunConfig(methods or ("mimmu", "salun"), suite, "tiny", **more))  # type: ignore[arg-type]


def test_what_cells_share_comes_first_and_each_cell_once(world: World) -> None:
    plan = planned()
    pieces = work_items(plan)
    shared = [unit for unit in pieces if unit.cell is None]
    assert [unit.concept for unit in shared] == [*(task.forget[0] for task in plan.tasks), ""]
    assert sorted(unit.cell for unit in pieces if unit.cell is not None) == list(range(len(plan.cells)))
    for place, unit in enumerate(pieces):
        assert all(earlier < place for earlier in unit.after)
        if unit.cell is not None:
            cell = plan.cells[unit.cell]
            named = [pieces[i].concept for i in unit.after if pieces[i].cell is None]
            assert named == ([cell.task.forget[0], ""] if cell.method in ("mimmu", "salun") else [""])
    first = [u for u in pieces if u.cell is not None and plan.cells[u.cell].method == "wrecked"]
    assert not [i for i in first[0].after if pieces[i].cell is not None]
    assert all(pieces[u.after[-1]].cell == first[0].cell for u in first[1:])


def test_a_wave_needs_nothing_of_itself(world: World) -> None:
    forget = (world.concepts[0], world.concepts[6], world.concepts[1])
    plan = planned("mimmu", suite="sequential", forget=forget)
    pieces = work_items(plan)
    order = waves(pieces)
    assert sorted(place for wave in order for place in wave) == list(range(len(pieces)))
    wave_of = {place: i for i, wave in enumerate(order) for place in wave}
    assert all(wave_of[earlier] < wave_of[place] for place, unit in enumerate(pieces) for earlier in unit.after)
    assert len(order) == 1 + 3  # what is shared; then three requests one after another
    assert waves(()) == []


def test_controls_alone_need_no_pictures_to_learn_from(world: World, tmp_path: Path) -> None:
    assert [unit.concept for unit in work_items(planned("pretrained", suite="smoke")) if unit.cell is None] == [""]


def test_a_request_waits_for_the_one_before_it(world: World) -> None:
    forget = (world.concepts[0], world.concepts[6], world.concepts[1])
    plan = resolve(RunConfig(world="tiny", methods=("mimmu",), suite="sequential", forget=forget, seeds=(0, 1)))
    before = predecessors(plan)
    assert len(before) == 2 * len(plan.cells) // 3
    for index, earlier in before.items():
        one, two = plan.cells[earlier], plan.cells[index]
        assert (one.method, one.seed, one.task) == (two.method, two.seed, two.task.after)
    assert not predecessors(resolve(RunConfig(world="tiny", methods=("mimmu",))))


def test_cells_that_train_run_side_by_side_unless_one_starts_from_another(world: World) -> None:
    forget = (world.concepts[0], world.concepts[6], world.concepts[1])
    assert side_by_side(planned("pretrained", suite="smoke")) == 0
    assert side_by_side(planned("mimmu", suite="smoke")) == 1
    assert side_by_side(planned("mimmu", "salun", "esd-x", suite="smoke", seeds=range(8))) == 24  # of one task
    assert side_by_side(planned("mimmu", suite="smoke", sweep={"mimmu": {"lr": ("1e-5", "1e-6", "1e-7")}})) == 3
    assert side_by_side(planned("mimmu", suite="sequential", forget=forget)) == 1  # three cells, one after another
    assert side_by_side(planned("mimmu", "salun", suite="sequential", forget=forget, seeds=(0, 1))) == 4
    plan = planned("mimmu")
    assert side_by_side(plan) == len(plan.tasks)


def test_an_unlearned_model_that_several_cells_train_further_is_made_first(world: World) -> None:
    plan = planned("mimmu", suite="resurgence", forget=world.concepts[:1], seeds=(0, 1))
    pieces = work_items(plan)
    made = [place for place, unit in enumerate(pieces) if unit.start is not None]
    assert [pieces[place].name for place in made] == [f"mimmu · {world.concepts[0]} · seed {seed}" for seed in (0, 1)]
    for unit in pieces:
        if unit.cell is not None:
            cell = plan.cells[unit.cell]
            assert [p for p in unit.after if p in made] == ([made[cell.seed]] if cell.method == "mimmu" else [])


def test_another_plan_has_another_signature(world: World) -> None:
    assert signature(work_items(planned()), "1") == signature(work_items(planned()), "1")
    assert signature(work_items(planned()), "1") != signature(work_items(planned("mimmu")), "1")
    assert signature(work_items(planned()), "1") != signature(work_items(planned()), "2")
