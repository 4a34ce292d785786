"""Parts that every other package uses: configuration, tasks, registries, digests, the store, file locks and devices.

Nothing in this package depends on diffusion models.
"""
