"""The photographs: class names, download, the official archives with their splits, and images as tensors."""
