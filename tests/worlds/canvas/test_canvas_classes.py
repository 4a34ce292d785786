"""Names and prompts as published."""

import pytest

from bench.worlds.canvas import classes


def test_the_lists_are_those_of_the_released_experiments() -> None:
    assert len(classes.STYLES) == len(set(classes.STYLES)) == 50
    assert len(classes.OBJECTS) == len(set(classes.OBJECTS)) == 20
    assert len(classes.SEEDS) * len(classes.STYLE_LABELS) * len(classes.OBJECTS) == 5100
    assert not set(classes.STYLE_LABELS) & set(classes.OBJECTS)


def test_labels_are_in_the_order_of_the_released_classifier() -> None:
    assert classes.STYLE_LABELS.index(classes.SEED_IMAGES) == 38
    assert classes.STYLE_LABELS[37:40] == ("Rust", "Seed_Images", "Sketch")
    assert list(classes.STYLE_LABELS) == sorted(classes.STYLE_LABELS)
    assert list(classes.OBJECTS) == sorted(classes.OBJECTS)
    assert tuple(s for s in classes.STYLE_LABELS if s != classes.SEED_IMAGES) == classes.STYLES


def test_prompts_are_those_of_the_samplers() -> None:
    assert classes.prompt("Van_Gogh", "Dogs") == "A Dogs image in Van Gogh style."
    assert classes.prompt("Red_Blue_Ink", "Architectures") == "A Architectures image in Red Blue Ink style."
    assert classes.prompt(classes.SEED_IMAGES, "Human") == "A Human image in Seed Images style."


def test_a_name_of_neither_list_is_refused() -> None:
    with pytest.raises(ValueError, match="'Van Gogh' is no style"):
        classes.prompt("Van Gogh", "Dogs")
    with pytest.raises(ValueError, match="'Dog' is no object"):
        classes.prompt("Van_Gogh", "Dog")
