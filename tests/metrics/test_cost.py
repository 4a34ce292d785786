import pytest
from support.results import cell_result

from metrics import COSTS


def test_cost_reads_its_section_of_result() -> None:
    counts = {
        section: {cost.name: i for i, cost in enumerate(COSTS) if cost.section == section}
        for section in ("cost", "data")
    }
    assert [cost.of(cell_result("mine", "tulip", **counts)) for cost in COSTS] == list(range(len(COSTS)))


def test_missing_count_raises_key_error() -> None:
    for cost in COSTS:
        with pytest.raises(KeyError, match=cost.name):
            cost.of(cell_result("mine", "tulip", cost={}, data={"something": 1}))


def test_given_weights_have_only_a_size() -> None:
    counts = {cost.name: 0 for cost in COSTS if cost.section == "cost"} | {"delta_bytes": 7}
    given = cell_result("mine", "tulip", cost=counts, data={})
    assert {cost.name: cost.of(given) for cost in COSTS if cost.of(given) is not None} == {"delta_bytes": 7}
