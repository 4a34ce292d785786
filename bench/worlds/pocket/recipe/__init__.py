"""Train the models of the pocket world and its oracles from scratch, and check them."""
