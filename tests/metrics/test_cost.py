import pytest

from metrics import COSTS


def test_costs_are_read_from_where_they_are_kept() -> None:
    result = {
        section: {cost.name: i for i, cost in enumerate(COSTS) if cost.section == section}
        for section in ("cost", "data")
    }
    assert [cost.of(result) for cost in COSTS] == list(range(len(COSTS)))


def test_a_count_that_was_not_kept_is_an_error() -> None:
    for cost in COSTS:
        with pytest.raises(KeyError, match=cost.name):
            cost.of({"cost": {}, "data": {"something": 1}})


def test_of_weights_that_were_given_only_the_size_is_known() -> None:
    given = {"cost": {cost.name: 0 for cost in COSTS if cost.section == "cost"} | {"delta_bytes": 7}, "data": {}}
    assert {cost.name: cost.of(given) for cost in COSTS if cost.of(given) is not None} == {"delta_bytes": 7}
