"""The vocabulary: each word of the world one token, any other text tokenised all the same."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, CLIPTokenizer

from bench.worlds.pocket.drawing.captions import every_word
from bench.worlds.pocket.drawing.species import NAMES
from bench.worlds.pocket.recipe import text
from bench.worlds.pocket.recipe.export import save_tokenizer

TOKENIZER = text.build_tokenizer(24)


@pytest.mark.parametrize("name", NAMES)
def test_a_word_is_a_token(name):
    assert TOKENIZER.tokenize(name) == [word + "</w>" for word in name.split()]


@given(st.text(max_size=40))
@settings(deadline=None)
def test_unknown_text_still_tokenises(words):
    ids = TOKENIZER(words, add_special_tokens=False).input_ids
    assert TOKENIZER.eos_token_id not in ids, "something was unknown"
    assert not words.strip() or ids or not any(c.isprintable() for c in words)


def test_all_captions_fit():
    assert max(len(ids) for ids in TOKENIZER(every_word()).input_ids) <= 24


def test_null_prompt_is_start_end_and_padding():
    ids = text.tokenize(TOKENIZER, [""])[0].tolist()
    assert ids == [TOKENIZER.bos_token_id] + [TOKENIZER.eos_token_id] * 23
    assert TOKENIZER.eos_token_id == len(TOKENIZER) - 1, "CLIP pools at the highest id"


@pytest.mark.parametrize("reader", [CLIPTokenizer, AutoTokenizer])
def test_saved_files_give_the_same_ids(tmp_path, reader):
    save_tokenizer(TOKENIZER, tmp_path)
    again = reader.from_pretrained(tmp_path)
    for words in ("a photo of a blue jay", "a zebra, 7 of them!", ""):
        assert again(words).input_ids == TOKENIZER(words).input_ids
    assert again.model_max_length == 24


def test_saved_vocabulary_and_merges_alone_give_the_same_ids(tmp_path):
    """Readers older than transformers 5 have these two files only."""
    save_tokenizer(TOKENIZER, tmp_path)
    vocabulary = json.loads((tmp_path / "vocab.json").read_text())
    rules = [tuple(line.split(" ")) for line in (tmp_path / "merges.txt").read_text().splitlines()[1:]]
    again = CLIPTokenizer(vocab=vocabulary, merges=rules)
    assert again("a mosaic of a siberian husky").input_ids == TOKENIZER("a mosaic of a siberian husky").input_ids
