from bench.core.config import RunConfig
from bench.plan.plan import resolve
from bench.suites import SUITES


def test_ablation_changes_one_setting_at_a_time() -> None:
    plan = resolve(RunConfig(methods=("mimmu",), suite="noise-ablation"))
    rows = [name for name in plan.methods if plan.base_method(name) == "mimmu"]
    assert rows[0] == "mimmu"
    assert all(len(plan.variants[name].values) == 1 for name in rows[1:])
    fields = {field for name in rows for field in plan.variants[name].values}
    assert fields == {"t_min", "t_max", "weighting", "x_source", "parameters"}
    assert SUITES.get("noise-ablation").variants.keys() == {"mimmu"}
