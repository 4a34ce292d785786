"""Pictures in bulk: balanced, cached, seeds that never meet."""

import numpy as np

from bench.worlds.pocket.drawing import dataset
from bench.worlds.pocket.drawing.species import NAMES
from bench.worlds.pocket.drawing.styles import STYLES


def test_plan_is_balanced():
    table = np.array(dataset.plan("model", 100, 0.4))
    assert len(table) == 100 * len(NAMES)
    for k in range(len(NAMES)):
        counts = np.bincount(table[table[:, 0] == k, 1], minlength=len(STYLES))
        assert counts[0] == 40
        assert counts[1:].tolist() == [12] * 5


def test_a_species_left_out_is_nowhere():
    table = np.array(dataset.plan("model", 10, 0.5, without=("tulip",)))
    assert NAMES.index("tulip") not in table[:, 0]
    assert len(table) == 10 * (len(NAMES) - 1)


def test_purposes_share_no_seed():
    seeds = {split: {job[2] for job in dataset.plan(split, 2000, 0.4)} for split in dataset.FIRST_SEED}
    assert sum(map(len, seeds.values())) == len(set().union(*seeds.values()))


def test_pictures_are_rendered_once(tmp_path):
    images, labels = dataset.pictures(tmp_path, "judge", 2, 0.5, workers=1)
    stamp = next(tmp_path.glob("*.npy")).stat().st_mtime_ns
    again, _ = dataset.pictures(tmp_path, "judge", 2, 0.5, workers=1)
    assert next(tmp_path.glob("*.npy")).stat().st_mtime_ns == stamp
    assert np.array_equal(images, again)
    assert images.shape == (48, 64, 64, 3)
    assert labels.shape == (48, 2)
    assert not list(tmp_path.glob("*.part"))
