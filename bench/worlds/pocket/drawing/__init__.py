"""Draw the images: species, styles, scenes, their captions, and data sets rendered from them."""
