"""The camera: deterministic to the byte, every species in every style, seeds that vary the scene."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.worlds.pocket.drawing.dataset import drawing_digest
from bench.worlds.pocket.drawing.renderer import render
from bench.worlds.pocket.drawing.species import DOMAINS, NAMES
from bench.worlds.pocket.drawing.styles import STYLES
from bench.worlds.pocket.weights import manifest


def test_pictures_are_those_the_weights_were_trained_on():
    """A changed drawing is another world: every figure measured on this one would be void."""
    assert drawing_digest() == manifest()["drawing"] == "1ea6460fce2c3497"


def test_another_process_draws_the_same_bytes():
    code = (
        "import hashlib; from bench.worlds.pocket.drawing.renderer import render;"
        "print(hashlib.sha256(b''.join(render(n, s, 3).tobytes() for n in ('poodle', 'tulip', 'blue jay')"
        " for s in ('photo', 'neon', 'watercolour'))).hexdigest())"
    )
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    here = b"".join(
        render(n, s, 3).tobytes() for n in ("poodle", "tulip", "blue jay") for s in ("photo", "neon", "watercolour")
    )
    assert found == hashlib.sha256(here).hexdigest() + "\n"


@given(st.sampled_from(NAMES), st.sampled_from(STYLES), st.integers(0, 2**40))
@settings(max_examples=60, deadline=None)
def test_every_request_gives_a_picture(name, style, seed):
    picture = render(name, style, seed)
    assert picture.shape == (64, 64, 3)
    assert picture.dtype == np.uint8
    assert picture.std() > 8, "a blank picture"
    # the key colour that marks "nothing drawn here" never reaches a picture
    assert not (picture == (255, 0, 255)).all(-1).any()


def test_seeds_vary_the_picture_and_styles_keep_the_scene():
    pictures = {render("blue jay", "photo", seed).tobytes() for seed in range(40)}
    assert len(pictures) == 40
    for style in STYLES[1:]:
        assert render("blue jay", style, 5).tobytes() != render("blue jay", "photo", 5).tobytes()


def test_a_species_is_drawn_inside_the_picture():
    """Averaged over seeds, the middle differs between species and the corners hardly do."""
    means = np.stack([np.mean([render(n, "photo", s) for s in range(24)], 0) for n in NAMES])
    spread = means.std(0).mean(-1)
    corners = np.concatenate([spread[:6, :6].ravel(), spread[:6, -6:].ravel()]).mean()
    assert spread[24:40, 24:40].mean() > 1.5 * corners


@pytest.mark.parametrize(
    ("name", "near"), [("siberian husk", "siberian husky"), ("blue jey", "blue jay"), ("Tulip", "tulip")]
)
def test_unknown_species_names_the_nearest(name, near):
    with pytest.raises(ValueError, match=f"unknown species '{name}'; nearest known: {near}"):
        render(name)


def test_unknown_style_names_the_nearest():
    with pytest.raises(ValueError, match="watercolour"):
        render("tulip", "watercolor")


def test_eight_or_more_species_in_each_domain():
    assert {d: len(rows) >= 8 for d, rows in DOMAINS.items()} == {"dog": True, "flower": True, "bird": True}
