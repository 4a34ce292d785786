"""The photographs: class names, download, the official archives and their splits, and images as tensors."""
