"""A world of concepts of the user's own, which a YAML file names."""
