"""Checks of a world with its tokenizer, judges and reference images. A run makes them before it draws an image."""
