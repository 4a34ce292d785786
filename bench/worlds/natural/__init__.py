"""Photographs of dogs, flowers and birds, for Stable Diffusion."""
