"""Networks that judge pictures of any concepts: pretrained classifiers, and image-text models with prompts."""
