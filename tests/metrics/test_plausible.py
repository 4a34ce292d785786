import dataclasses

import pytest
import torch
from support.exhibits import ALL, evidence, whole

from metrics import METRICS, Evidence
from metrics.base import MissingEvidence, Score


def value(name: str, given: Evidence) -> float:
    found = METRICS.get(name).compute(given)
    assert found is not None
    return found.value


class TestPrecision:
    # Real pictures at 0, 1, ..., 10 and at 30 on a line: the tenth nearest other is 10 away at both ends of the row, 9
    # down to 5 within it, and 29 for the last
    REAL = torch.tensor([*range(11), 30.0]).unsqueeze(1)

    def given(self, drawn: list[float]) -> Evidence:
        base = evidence({c: c * len(drawn) for c in ALL})
        features = torch.tensor([*drawn, *[50.0] * (3 * len(drawn))]).unsqueeze(1)
        reference = {"a": self.REAL[:10], "b": self.REAL[10:11], "c": self.REAL[11:]}
        return dataclasses.replace(base, features=features, domain_reference=reference, domains={"a": ("a", "b", "c")})

    def test_plausible_equals_share_computed_by_hand(self) -> None:
        # within 0 +- 10, ..., 10 +- 10 or 30 +- 29, which is -10 to 59
        assert value("plausible", self.given([-10.1, -9.9, 58.9, 59.1])) == 0.5
        assert value("plausible", self.given([0.0, 1.0, 25.0])) == 1
        assert value("plausible", self.given([-11.0, 60.0])) == 0

    def test_plausible_of_one_image(self) -> None:
        assert METRICS.get("plausible").compute(self.given([2.5])) == Score(1, 1)

    def test_reference_images_are_plausible_and_distant_images_are_not(self) -> None:
        base = whole({c: c * 4 for c in ALL})
        real = base.features.clone()
        real[:4] = base.reference["b"][:4]
        assert value("plausible", dataclasses.replace(base, features=real)) == 1
        assert value("plausible", dataclasses.replace(base, features=base.features + 100)) == 0

    def test_plausible_without_reference_images_of_domain_raises(self) -> None:
        whole_domain = self.given([0.0, 1.0])
        without = {c: r for c, r in whole_domain.domain_reference.items() if c != "c"}
        with pytest.raises(MissingEvidence, match="no reference images of c"):
            value("plausible", dataclasses.replace(whole_domain, domain_reference=without))

    def test_plausible_is_none_without_tenth_neighbour(self) -> None:
        alone = dataclasses.replace(self.given([0.0, 1.0]), domains={"a": ("a",)})  # ten real pictures
        assert METRICS.get("plausible").compute(alone) is None


class TestDomain:
    def test_plausible_domain_equals_share_computed_by_hand(self) -> None:
        given = dataclasses.replace(whole({"a": "abcdxx", "b": "b" * 6, "c": "c" * 6, "d": "d" * 6}))
        assert METRICS.get("plausible_domain").compute(given) == Score(3 / 6, 6)

    def test_plausible_domain_is_one_if_all_inside_and_zero_if_all_outside(self) -> None:
        rest = {c: c * 3 for c in "bcd"}
        assert value("plausible_domain", whole({"a": "bbc", **rest})) == 1
        assert value("plausible_domain", whole({"a": "ddx", **rest})) == 0

    def test_plausible_domain_is_none_if_judge_knows_only_the_domain(self) -> None:
        base = whole({c: c * 3 for c in ALL})
        assert METRICS.get("plausible_domain").compute(dataclasses.replace(base, labels=frozenset("abc"))) is None
