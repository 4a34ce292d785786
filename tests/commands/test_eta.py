import pytest

from bench.commands.eta import Eta
from bench.engines import Status


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_remaining_time_follows_from_finished_cells() -> None:
    clock = Clock()
    pace = Eta(100, None, clock)
    assert pace.remaining(0) is None
    pace.update(Status(0, 100), 40)  # stored ones came at once
    clock.now = 50
    pace.update(Status(4, 56), 40)
    assert pace.remaining(40) is None
    clock.now = 50 + 7200
    assert pace.remaining(60) == pytest.approx(2 * 7200)
    assert pace.text(60, 0) == "60 done, 4 running, 56 waiting, about 4.0 h left"
    assert pace.remaining(100) == 0


def test_remaining_time_before_first_cell_is_estimate() -> None:
    pace = Eta(100, 3600 * 60, Clock())
    pace.update(Status(8, 52), 40)
    assert pace.remaining(40) == pytest.approx(3600 * 60 / 8)
    assert "2 failed" in pace.text(40, 2)
    assert "not known yet" in Eta(5, None, Clock()).text(0, 0)
