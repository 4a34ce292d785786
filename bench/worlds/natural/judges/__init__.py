"""Classifiers that recognise the species in an image: pretrained, zero-spec, or trained here on the photographs."""
