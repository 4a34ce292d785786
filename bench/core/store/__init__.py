"""The store: computed results on disk, each found by its cache key."""

from bench.core.store.entries import FORMAT, RECORD, TENSORS, Entry, TensorsDiscarded
from bench.core.store.store import Store

__all__ = ["FORMAT", "RECORD", "TENSORS", "Entry", "Store", "TensorsDiscarded"]
