"""Draw the images of the pocket world: species, styles, scenes, captions, and rendered data sets."""
