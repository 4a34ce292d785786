"""Classifiers that recognise the species in an image: pretrained, zero-shot, or trained here on the photographs."""
