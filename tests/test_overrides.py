from dataclasses import dataclass
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.overrides import apply, grid, parse, parse_sweep


@dataclass(frozen=True)
class Settings:
    lr: float = 1e-5
    epochs: int = 30
    parameters: str = "attn2"
    on: bool = False
    timesteps: tuple[int, int] = (50, 950)
    clip: float | None = None


def test_values_take_the_types_of_their_fields() -> None:
    texts = {"lr": "1e-3", "epochs": "2", "parameters": "unet", "on": "true", "timesteps": "(0, 999)", "clip": "1"}
    changed = apply(Settings(), texts, "mimmu")
    assert changed == Settings(1e-3, 2, "unet", True, (0, 999), 1.0)
    assert isinstance(changed.clip, float)
    assert apply(changed, {"clip": "none"}, "mimmu").clip is None


@pytest.mark.parametrize(
    "texts",
    [{"lr": "fast"}, {"epochs": "2.5"}, {"epochs": "True"}, {"on": "1"}, {"timesteps": "(1, 2, 3)"}, {"clip": "x"}],
)
def test_a_value_of_another_type_is_refused(texts: dict[str, str]) -> None:
    (name,) = texts
    with pytest.raises(ValueError, match=rf"mimmu\.{name} takes "):
        apply(Settings(), texts, "mimmu")


def test_an_unknown_field_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"mimmu has no setting 'epoch': did you mean 'epochs'\?"):
        apply(Settings(), {"epoch": "3"}, "mimmu")


def test_items_are_split_by_section() -> None:
    parsed = parse(["mimmu.lr=1e-5", "protocol.scheduler=a=b", "mimmu.epochs=3"], ("mimmu", "protocol"))
    assert parsed == {"mimmu": {"lr": "1e-5", "epochs": "3"}, "protocol": {"scheduler": "a=b"}}


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("lr=1", "takes SECTION.FIELD=VALUE"),
        ("mimmu.lr", "takes SECTION.FIELD=VALUE"),
        ("mimu.lr=1", "did you mean 'mimmu'"),
    ],
)
def test_a_malformed_item_is_refused(item: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse([item], ("mimmu",))


def test_a_sweep_says_its_own_form_and_takes_no_value_twice() -> None:
    with pytest.raises(ValueError, match=r"--sweep takes METHOD\.FIELD=V1,V2, .* not 'mimmu\.t_max'"):
        parse_sweep(["mimmu.t_max"], ("mimmu",))
    with pytest.raises(ValueError, match=r"--sweep mimmu\.t_max names '300' twice"):
        parse_sweep(["mimmu.t_max=300,600,300"], ("mimmu",))


def test_a_field_set_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="given twice"):
        parse(["mimmu.lr=1", "mimmu.lr=2"], ("mimmu",))


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers())
def test_what_python_prints_is_read_back(lr: float, epochs: int) -> None:
    changed = apply(Settings(), {"lr": repr(lr), "epochs": repr(epochs)}, "mimmu")
    assert (changed.lr, changed.epochs) == (lr, epochs)


@dataclass(frozen=True)
class Length:
    epochs: int | None = None
    steps: int | None = 100
    lr: float = 1.0
    ALTERNATIVES: ClassVar = (("epochs", "steps"),)

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("either epochs or steps")


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ({"epochs": "5"}, Length(5, None)),
        ({"steps": "7"}, Length(None, 7)),
        ({"lr": "2"}, Length(None, 100, 2.0)),
        ({"epochs": "5", "steps": "none"}, Length(5, None)),
        ({"epochs": "none"}, Length(None, 100)),
    ],
)
def test_one_alternative_set_is_the_other_left(texts: dict[str, str], expected: Length) -> None:
    assert apply(Length(), texts, "esd-x") == expected


@pytest.mark.parametrize("texts", [{"epochs": "5", "steps": "7"}, {"steps": "none"}])
def test_what_the_class_refuses_names_the_section(texts: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"^esd-x: either epochs or steps$"):
        apply(Length(), texts, "esd-x")


def test_a_sweep_lists_values_and_keeps_tuples_whole() -> None:
    found = parse_sweep(["a.x=1,2", "a.y=(1, 2),(3,4)"], ("a",))
    assert found == {"a": {"x": ("1", "2"), "y": ("(1, 2)", "(3,4)")}}
    every = grid(found["a"])
    assert len(every) == 4
    assert every[1] == {"x": "1", "y": "(3,4)"}
    with pytest.raises(ValueError, match="nothing called 'b'"):
        parse_sweep(["b.x=1"], ("a",))
