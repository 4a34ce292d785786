"""Find, load and sample a diffusion model.

A model comes from a pipeline folder, from a single file or from the Hugging Face hub.
"""
