"""Stage `text`: a small vocabulary in CLIPTokenizer's format, and a CLIP text encoder that stage `unet` trains."""

from __future__ import annotations

import json

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from bench.worlds.pocket.drawing.captions import every_word
from bench.worlds.pocket.recipe.settings import Recipe

START, END = "<|startoftext|>", "<|endoftext|>"
SUFFIX = "</w>"


def build_tokenizer(length: int) -> CLIPTokenizer:
    """A byte-level BPE tokenizer. Each word of the pocket world is one token, and other text is split into bytes.

    The vocabulary has two tokens for each of 256 bytes: one inside a word and one at the end of a word. The tokenizer
    therefore encodes any text. END has the highest id, as in CLIP, and END is also the padding token.
    `length` is the number of tokens of a padded prompt.
    """
    words = Tokenizer(models.BPE(end_of_word_suffix=SUFFIX))
    words.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(False)])
    trainer = trainers.BpeTrainer(vocab_size=10_000, min_frequency=1, end_of_word_suffix=SUFFIX, show_progress=False)
    words.train_from_iterator(every_word(), trainer)
    merges = _merges(words)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = alphabet + [byte + SUFFIX for byte in alphabet]
    tokens += [merged for merged in dict.fromkeys(a + b for a, b in merges) if merged not in set(tokens)]
    vocabulary = {token: i for i, token in enumerate([*tokens, START, END])}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=length)


def _merges(tokenizer: Tokenizer) -> list[tuple[str, str]]:
    """The merge rules of the tokenizer, in order of priority."""
    rules = json.loads(tokenizer.to_str())["model"]["merges"]
    return [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in rules]


def build_encoder(recipe: Recipe, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """The untrained text encoder. Its hidden states have the shape (B, text_length, text_width)."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=recipe.text_width,
            intermediate_size=4 * recipe.text_width,
            projection_dim=recipe.text_width,
            num_hidden_layers=recipe.text_layers,
            num_attention_heads=recipe.text_heads,
            max_position_embeddings=recipe.text_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """Token ids int64 (B, model_max_length). Padding and truncation are as in StableDiffusionPipeline."""
    return tokenizer(
        texts, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
    ).input_ids
