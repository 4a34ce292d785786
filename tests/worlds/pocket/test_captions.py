"""What is said of a picture: disjoint groups, words in common."""

import random
import re
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from bench.worlds.pocket.drawing import captions
from bench.worlds.pocket.drawing.species import NAMES
from bench.worlds.pocket.drawing.styles import STYLES

GROUPS = {"train": (*captions.TRAIN, *captions.BARE), "forget": captions.FORGET, "evaluate": captions.EVALUATE}


def test_no_sentence_stands_in_two_groups():
    said = {g: {captions.caption(t, n, s) for t in ts for n in NAMES for s in STYLES} for g, ts in GROUPS.items()}
    for a, b in combinations(said, 2):
        assert not said[a] & said[b], (a, b)


def test_every_word_of_forgetting_and_evaluation_was_seen_in_training():
    words = {g: {w for t in ts for w in re.findall(r"[a-z]+", re.sub(r"\{.*?\}", "", t))} for g, ts in GROUPS.items()}
    assert words["forget"] | words["evaluate"] <= words["train"]


def test_articles():
    assert captions.caption("{a_style} of {a_subject}", "iceland poppy", "neon") == "a neon sign of an iceland poppy"
    assert captions.caption("{subject}, {style}", "blue jay") == "blue jay, photo"


@given(st.sampled_from(NAMES), st.sampled_from(STYLES), st.integers(0, 10**9))
def test_training_captions_never_say_anything_false(name, style, seed):
    text = captions.training_caption(name, style, random.Random(seed))
    for other in NAMES:
        assert other == name or other not in text
    for other, noun in captions.STYLE_NOUNS.items():
        assert other == style or not re.search(rf"\b{noun}\b", text)


def test_share_of_empty_captions():
    rng = random.Random(0)
    empty = sum(captions.training_caption("tulip", "photo", rng) == "" for _ in range(20_000)) / 20_000
    assert 0.09 < empty < 0.11
