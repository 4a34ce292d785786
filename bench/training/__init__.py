"""Train a model to forget, or train it further afterwards: the training loop, what a method is given to work with,
and the data it learns from."""
