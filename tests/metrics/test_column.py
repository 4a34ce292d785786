import dataclasses

import pytest

from metrics import COSTS, METRICS


@pytest.mark.parametrize(("higher_is_better", "better", "arrow"), [(True, "higher", "↑"), (False, "lower", "↓")])
def test_metric_column_has_the_direction_of_the_metric(higher_is_better: bool, better: str, arrow: str) -> None:
    column = dataclasses.replace(METRICS.get("ua"), higher_is_better=higher_is_better).column
    assert (column.better, column.arrow) == (better, arrow)


def test_metric_column_repeats_what_the_metric_declares() -> None:
    metric = dataclasses.replace(METRICS.get("ua"), unit="points", digits=3, headline=False)
    column = metric.column
    assert (column.name, column.about, column.unit) == (metric.name, metric.about, "points")
    assert (column.digits, column.headline) == (3, False)


def test_cost_columns_are_better_when_lower_and_seconds_alone_is_a_headline() -> None:
    columns = [cost.column for cost in COSTS]
    assert [(c.name, c.about, c.unit) for c in columns] == [(c.name, c.about, c.unit) for c in COSTS]
    assert {c.better for c in columns} == {"lower"}
    assert [c.name for c in columns if c.headline] == ["seconds"]
