"""Drawn dogs, birds and flowers at 64 x 64 pixels, with a small diffusion model whose weights are committed."""
