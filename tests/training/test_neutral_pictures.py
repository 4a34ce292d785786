import hashlib
import random
import re

import pytest
import torch

from bench.training.neutral.patterns import PATTERNS, SHADES, levels
from bench.training.neutral.pictures import COLOURS, LETTERS, drawn
from bench.worlds.canvas import classes
from bench.worlds.natural.photographs.birds import BIRDS
from bench.worlds.natural.photographs.dogs import BREEDS
from bench.worlds.natural.photographs.flowers import FLOWERS
from bench.worlds.pocket.drawing.species import DOMAIN_OF, DOMAINS, SPECIES
from bench.worlds.pocket.drawing.styles import STYLES
from bench.worlds.pocket.recipe import text

MANY = 16 * len(PATTERNS)


@pytest.fixture(scope="module")
def captions() -> tuple[str, ...]:
    return drawn(MANY, 4)[1]


def words(names: object) -> set[str]:
    return {word for name in names for word in re.split(r"[^a-z]+", name.lower()) if word}  # type: ignore[attr-defined]


def singular(names: set[str]) -> set[str]:
    return names | {word.removesuffix("s") for word in names}


def test_neutral_pictures_longer_list_starts_with_the_shorter() -> None:
    short, long = drawn(5, 16, seed=3), drawn(9, 16, seed=3)
    assert torch.equal(short[0], long[0][:5])
    assert short[1] == long[1][:5]
    assert drawn(5, 16, seed=4)[1] != short[1]


def test_neutral_pictures_have_the_recorded_bytes() -> None:
    pictures, captions = drawn(2 * len(PATTERNS), 16)
    assert pictures.shape == (2 * len(PATTERNS), 3, 16, 16)
    assert pictures.dtype == torch.uint8
    digest = hashlib.sha256(pictures.numpy().tobytes() + "\n".join(captions).encode()).hexdigest()
    assert digest == "57cdc71363d889bd5e748fffe25b48f61cc888910365859ed429d287dc0b671e"


def test_neutral_pictures_have_the_same_design_at_every_size() -> None:
    large, said = drawn(len(PATTERNS), 64)
    small, also = drawn(len(PATTERNS), 16)
    assert said == also
    shrunk = torch.nn.functional.avg_pool2d(large.float(), 4)
    assert (shrunk - small.float()).abs().mean((1, 2, 3)).max() < 12  # grey levels; edges fall between pixels


def test_neutral_pictures_and_captions_are_distinct(captions: tuple[str, ...]) -> None:
    pictures = drawn(2 * len(PATTERNS), 24)[0]
    assert len({picture.numpy().tobytes() for picture in pictures}) == len(pictures)
    assert pictures.float().std((2, 3)).amax(1).min() > 10  # none is of one colour
    assert len(set(captions)) > 0.9 * MANY
    assert {noun for c in captions for noun in PATTERNS if noun in c.split()} == set(PATTERNS)
    named = [[name for name in COLOURS if re.search(rf"\b{name}\b", c)] for c in captions]
    assert {len(names) for names in named} == {2, 3}
    assert {name for names in named for name in names} == set(COLOURS)


@pytest.mark.parametrize("noun", PATTERNS)
@pytest.mark.parametrize("colours", [2, 3])
def test_pattern_shows_every_colour_of_its_caption(noun: str, colours: int) -> None:
    pattern = PATTERNS[noun]
    for size in pattern.sizes:
        grid = levels(pattern, size, colours, 128, random.Random(f"{noun}{size}"))
        assert grid.shape == (128, 128)
        assert 0 <= grid.min() <= grid.max() <= (colours - 1) * SHADES
        for colour in range(colours):
            near = abs(grid - colour * SHADES) < SHADES // 8
            assert near.mean() > 0.015, (size, colour)


def test_captions_name_no_concept_of_any_world(captions: tuple[str, ...]) -> None:
    said = singular(words(captions) | set(COLOURS) | set(PATTERNS)) - {"on"}  # of "On Fire"
    pocket = [n for row in SPECIES.values() for n in (row.name, row.noun)] + [*DOMAIN_OF.values(), *DOMAINS, *STYLES]
    assert not said & singular(words(pocket))
    assert not said & singular(words([*classes.STYLE_LABELS, *classes.OBJECTS]))
    # colours are part of many a bird's name; what kind of thing it is comes last
    photographed = [*BREEDS.values(), *BIRDS.values(), *FLOWERS]
    kinds = words(re.split(r"[ -]", name)[-1] for name in photographed) - {"blue"}  # "bolero deep blue"
    assert not said & singular(kinds)
    assert not [(c, n) for c in captions for n in photographed if re.search(rf"\b{re.escape(n.lower())}s?\b", c)]


def test_captions_fit_the_pocket_tokenizer(captions: tuple[str, ...]) -> None:
    tokenizer = text.build_tokenizer(24)
    assert max(len(ids) for ids in tokenizer(list(captions), truncation=False).input_ids) <= 24
    assert max(len(caption.replace(" ", "")) for caption in captions) == LETTERS


@pytest.mark.parametrize(("count", "side"), [(0, 8), (3, 0)])
def test_neutral_pictures_refuse_empty_sizes(count: int, side: int) -> None:
    with pytest.raises(ValueError, match=f"found {count} and {side}"):
        drawn(count, side)
