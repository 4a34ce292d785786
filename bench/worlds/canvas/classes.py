"""The names, seeds and prompt of UnlearnCanvas (Zhang et al., NeurIPS 2024). The spelling is that of its released code.

The sources are files of github.com/OPTML-Group/UnlearnCanvas at commit 19ed5e7ff3dd2a5f43abb5a227c544f07c33db26, in the
folder machine_unlearning/evaluation:

- `constants/const.py`: `theme_available` and `class_available`, the label order of both released classifiers. The lists
  of 60 styles in this file are commented out.
- `quantitative/accuracy.py`: the seeds.
- `sampling_unlearned_models/esd.py`: the prompt.

The published sampling code requests photographs as "Seed Images style". The captions that the model was fine-tuned on
call photographs "Photo style" (`diffusion_model_finetuning/dataset_preparation.py`, same commit). The images of "Seed
Images style" are therefore not a fair test of the model. The published averages contain them all the same.
"""

from __future__ import annotations

SEED_IMAGES = "Seed_Images"  # the photographs; the images of every style were painted from them
SEEDS = (188, 288, 588, 688, 888)  # one image per seed, style and object: 5,100 images of a model

STYLE_LABELS: tuple[str, ...] = (
    "Abstractionism", "Artist_Sketch", "Blossom_Season", "Bricks", "Byzantine", "Cartoon", "Cold_Warm",
    "Color_Fantasy", "Comic_Etch", "Crayon", "Cubism", "Dadaism", "Dapple", "Defoliation", "Early_Autumn",
    "Expressionism", "Fauvism", "French", "Glowing_Sunset", "Gorgeous_Love", "Greenfield", "Impressionism", "Ink_Art",
    "Joy", "Liquid_Dreams", "Magic_Cube", "Meta_Physics", "Meteor_Shower", "Monet", "Mosaic", "Neon_Lines", "On_Fire",
    "Pastel", "Pencil_Drawing", "Picasso", "Pop_Art", "Red_Blue_Ink", "Rust", SEED_IMAGES, "Sketch", "Sponge_Dabbed",
    "Structuralism", "Superstring", "Surrealism", "Ukiyoe", "Van_Gogh", "Vibrant_Flow", "Warm_Love", "Warm_Smear",
    "Watercolor", "Winter",
)  # fmt: skip
STYLES: tuple[str, ...] = tuple(name for name in STYLE_LABELS if name != SEED_IMAGES)
OBJECTS: tuple[str, ...] = (
    "Architectures", "Bears", "Birds", "Butterfly", "Cats", "Dogs", "Fishes", "Flame", "Flowers", "Frogs", "Horses",
    "Human", "Jellyfish", "Rabbits", "Sandwiches", "Sea", "Statues", "Towers", "Trees", "Waterfalls",
)  # fmt: skip


def prompt(style: str, object: str) -> str:
    """The evaluation prompt: "A Dogs image in Van Gogh style." Raises ValueError for an unknown style or object."""
    if style not in STYLE_LABELS:
        raise ValueError(f"{style!r} is no style of UnlearnCanvas; known: {', '.join(STYLE_LABELS)}")
    if object not in OBJECTS:
        raise ValueError(f"{object!r} is no object of UnlearnCanvas; known: {', '.join(OBJECTS)}")
    return f"A {object} image in {style.replace('_', ' ')} style."
