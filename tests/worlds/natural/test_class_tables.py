"""The three tables of class names, against what other sources say of the same classes."""

from __future__ import annotations

import re

from timm.data import ImageNetInfo
from torchvision.datasets import Flowers102

from bench.worlds.natural.photographs.birds import BIRDS
from bench.worlds.natural.photographs.dogs import BREEDS
from bench.worlds.natural.photographs.flowers import FLOWERS

NAMES = [*BREEDS.values(), *FLOWERS, *BIRDS.values()]
OWN = {  # no name that ImageNet gives the synset
    "n02086910": "papillon dog",
    "n02088632": "bluetick coonhound",
    "n02090379": "redbone coonhound",
    "n02108089": "boxer dog",
    "n02108422": "bullmastiff",
    "n02111129": "Leonberger",
}
CORRECTED = {
    "globe-flower": "globe flower",
    "prince of wales feathers": "prince of wales feathers flower",
    "barbeton daisy": "barberton daisy",
    "bolero deep blue": "bolero deep blue lisianthus",
    "bishop of llandaff": "bishop of llandaff dahlia",
    "pink-yellow dahlia?": "pink-yellow dahlia",
    "desert-rose": "desert rose",
}
RESPELLED = {  # more than marks restored
    "017.Cardinal": "Northern Cardinal",
    "022.Chuck_will_Widow": "Chuck-will's-widow",
    "141.Artic_Tern": "Arctic Tern",
    "146.Forsters_Tern": "Forster's Tern",
}


def test_names_are_unique_over_all_domains_whatever_their_case() -> None:
    assert (len(BREEDS), len(FLOWERS), len(BIRDS)) == (120, 102, 200)
    assert len({name.lower() for name in NAMES}) == 422


def test_names_can_stand_in_a_prompt() -> None:
    for name in NAMES:
        assert re.fullmatch(r"[A-Za-z]+(?:[' -][A-Za-z]+)*", name), name


def test_breeds_are_in_the_order_of_their_synsets_and_named_as_imagenet_names_them() -> None:
    info = ImageNetInfo()
    assert list(BREEDS) == sorted(BREEDS)
    for folder, name in BREEDS.items():
        synset, official = folder.split("-", 1)
        assert synset in info.label_names(), folder
        lemmas = info.label_name_to_description(synset, detailed=False).split(", ")
        assert official.replace("_", " ") in lemmas, folder
        known = {OWN[synset]} if synset in OWN else {lemma.lower() for lemma in lemmas}
        assert name in known or name.lower() in known, (folder, name, lemmas)


def test_flowers_are_torchvisions_up_to_the_documented_corrections() -> None:
    assert tuple(CORRECTED.get(name, name) for name in Flowers102.classes) == FLOWERS
    assert set(CORRECTED) <= set(Flowers102.classes)


def test_birds_are_numbered_and_their_names_spell_their_folders() -> None:
    def letters(text: str) -> str:
        return re.sub(r"[^a-z]", "", text.lower())

    assert [int(folder[:3]) for folder in BIRDS] == list(range(1, 201))
    for folder, name in BIRDS.items():
        if folder in RESPELLED:
            assert name == RESPELLED[folder]
        else:
            assert letters(name.replace("'s ", " ")) == letters(folder), folder
