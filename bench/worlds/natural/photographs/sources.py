"""The published files of the three data sets: URLs, sizes and digests.

The sizes and the SHA-256 digests come from tensorflow_datasets 4.9.10, which records them for the same URLs
(`checksums.tsv` of stanford_dogs and oxford_flowers102, `url_checksums/caltech_birds2011.txt`). The authors of this
module could not download the archives, so they did not compute the digests themselves.
"""

from __future__ import annotations

from bench.worlds.downloads.source import Source

TITLES = {"dogs": "Stanford Dogs", "flowers": "Oxford Flowers-102", "birds": "CUB-200-2011"}
PICTURES = {"dogs": (12000, 8580), "flowers": (2040, 6149), "birds": (5994, 5794)}  # train, test, as published

STANFORD = "http://vision.stanford.edu/aditya86/ImageNetDogs"
OXFORD = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102"
CALTECH = "https://data.caltech.edu/records/65de6-vp158/files"

SOURCES = (
    Source(
        domain="dogs",
        url=f"{STANFORD}/images.tar",
        folder="stanford-dogs",
        gives=("Images",),
        size=793_579_520,
        sha256="a443fc2f9a851aa1a7b8e4fa4af94b8459fce2c9f5a2f4dd4669cf9673a4ec58",
    ),
    Source(
        domain="dogs",
        url=f"{STANFORD}/lists.tar",
        folder="stanford-dogs",
        gives=("train_list.mat", "test_list.mat"),
        size=481_280,
        sha256="34b47cacd9a98b5d150e084f24d29391c084c55272295ec65c85651bc35f4d6c",
        within="lists",
    ),
    Source(
        domain="flowers",
        url=f"{OXFORD}/102flowers.tgz",
        folder="flowers-102",
        gives=("jpg",),
        size=344_862_509,
        sha256="2d01ecc807db462958cfe3d92f57a8c252b4abd240eb955770201e45f783b246",
    ),
    Source(
        domain="flowers",
        url=f"{OXFORD}/imagelabels.mat",
        folder="flowers-102",
        gives=("imagelabels.mat",),
        size=502,
        sha256="4903e94206bac23bf772aadf06451916df56b58fc483a62db32a97b82656651d",
    ),
    Source(
        domain="flowers",
        url=f"{OXFORD}/setid.mat",
        folder="flowers-102",
        gives=("setid.mat",),
        size=14_989,
        sha256="46b8678f91fd95d3c8f4feab80d271a6c834a1dd896fe29fd3e6ad9ce5c8dccd",
    ),
    Source(
        domain="birds",
        url=f"{CALTECH}/CUB_200_2011.tgz",
        folder=".",
        gives=("CUB_200_2011",),
        size=1_150_585_339,
        sha256="0c685df5597a8b24909f6a7c9db6d11e008733779a671760afef78feb49bf081",
    ),
)
