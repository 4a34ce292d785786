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
            cost.of({"cost": {}, "data": {}})
