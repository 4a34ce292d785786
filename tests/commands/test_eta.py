import pytest

from bench.commands.eta import Pace
from bench.engines import Status


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_hours_left_follow_from_cells_that_came() -> None:
    clock = Clock()
    pace = Pace(100, None, clock)
    assert pace.left(0) is None
    pace.told(Status(0, 100), 40)  # stored ones came at once
    clock.now = 50
    pace.told(Status(4, 56), 40)
    assert pace.left(40) is None
    clock.now = 50 + 7200
    assert pace.left(60) == pytest.approx(2 * 7200)
    assert pace.text(60, 0) == "60 done, 4 running, 56 waiting, about 4.0 h left"
    assert pace.left(100) == 0


def test_before_the_first_it_is_what_the_estimate_says() -> None:
    pace = Pace(100, 3600 * 60, Clock())
    pace.told(Status(8, 52), 40)
    assert pace.left(40) == pytest.approx(3600 * 60 / 8)
    assert "2 failed" in pace.text(40, 2)
    assert "not known yet" in Pace(5, None, Clock()).text(0, 0)
