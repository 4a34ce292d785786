"""Train and check the models of the pocket world from scratch, its oracles included."""
