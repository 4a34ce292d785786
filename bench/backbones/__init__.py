"""Find, load and sample a diffusion model: pipeline folders, single files and the hub, its networks, and images from
prompts."""
