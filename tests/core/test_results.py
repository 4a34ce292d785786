"""A cell's result on its way through JSON."""

import json

import pytest
from support import requested
from support.results import cell_result, concept, failed, scores

from bench.core.results import CellResult

RESULTS = {
    "finished": cell_result("mimmu", "tulip", scores=scores({"ua": 0.9, "twin": None}), config={"lr": 1e-5}),
    "failed": failed(cell_result("mimmu", "tulip"), "MemoryError: no room", "failures/traceback.txt"),
    "in a sequence": requested.sequence("mimmu", [{"tulip": 1.0}, {"tulip": 0.9, "rose": 1.0}])[1],
    "trained further": requested.finetuned("mimmu", "tulip", "5 pictures", (0.0, 0.5)),
    "of a sweep": requested.variant("tulip", {"t_max": 600}, {"t_max": 600}),
    "with figures of concepts": cell_result(
        "mimmu", "tulip", concepts=(concept("tulip", "forget", 0.1, figures={"drift": 0.2, "clip": None}),)
    ),
    "with warnings": cell_result("mimmu", "tulip", warnings=("it changed nothing", "it read a file")),
}


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_survives_json(name: str) -> None:
    result = RESULTS[name]
    again = CellResult.from_json(json.loads(json.dumps(result.to_json())))
    assert again == result
    assert type(again.step) is type(result.step)


def test_json_of_earlier_releases_has_no_warnings() -> None:
    facts = RESULTS["finished"].to_json()
    del facts["warnings"]
    assert CellResult.from_json(facts) == RESULTS["finished"]


def test_json_that_lacks_a_part_or_has_an_unknown_one_is_refused() -> None:
    facts = RESULTS["finished"].to_json()
    with pytest.raises(TypeError, match="surprise"):
        CellResult.from_json({**facts, "surprise": 1})
    with pytest.raises(KeyError, match="scores"):
        CellResult.from_json({name: value for name, value in facts.items() if name != "scores"})
