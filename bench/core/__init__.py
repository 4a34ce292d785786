"""What every other package uses: configuration, tasks, named registries, digests, the store of results, file locks
and devices. It knows nothing of diffusion models."""
