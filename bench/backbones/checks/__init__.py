"""Checks of a model's files before anything is computed: settings, tensors, and what kind of file they are."""
