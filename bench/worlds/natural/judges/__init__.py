"""Classifiers of the species in an image: pretrained, zero-shot, or trained by Lethe on the photographs."""
