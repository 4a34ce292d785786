"""Finished models from elsewhere: what a file or folder contains, and which tensors of the backbone it changes."""
