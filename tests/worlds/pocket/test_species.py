"""The table: twins, nouns and distances."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.worlds.pocket.distances import attribute_distances
from bench.worlds.pocket.drawing.species import DOMAIN_OF, DOMAINS, NAMES, SPECIES, attribute_distance

names = st.sampled_from(NAMES)


@pytest.mark.parametrize("domain", DOMAINS)
def test_three_pairs_of_twins_each_nearest_to_the_other(domain):
    rows = DOMAINS[domain]
    twins = [row for row in rows if row.twin]
    assert len(twins) >= 6
    for row in twins:
        assert SPECIES[row.twin].twin == row.name
        assert min((r for r in rows if r is not row), key=lambda r: attribute_distance(row, r)).name == row.twin


def test_some_twins_share_their_noun_and_some_do_not():
    shared = {row.noun == SPECIES[row.twin].noun for row in SPECIES.values() if row.twin}
    assert shared == {True, False}
    assert all(row.noun in row.name.split() for row in SPECIES.values())


@given(names, names)
def test_attribute_distance_is_a_bounded_symmetric_distance(a, b):
    d = attribute_distance(SPECIES[a], SPECIES[b])
    assert d == attribute_distance(SPECIES[b], SPECIES[a])
    assert (d == 0) == (a == b)
    assert 0 <= d <= 1
    if DOMAIN_OF[a] != DOMAIN_OF[b]:
        assert d == 1


def test_attribute_distance_by_hand():
    # daisy / chamomile: petals |14-9|/10, same shape and leaves, other centre, three colours nearly equal
    a, b = SPECIES["daisy"], SPECIES["chamomile"]
    colours = [(a.petal, b.petal), (a.second, b.second), (a.heart, b.heart)]
    rgb = sum((sum((x - y) ** 2 for x, y in zip(p, q, strict=True)) / (3 * 255**2)) ** 0.5 * 2 for p, q in colours)
    assert attribute_distance(a, b) == pytest.approx((0.5 + 1 + rgb) / 7)


def test_the_table_of_distances_is_whole():
    table = attribute_distances()
    assert list(table) == list(NAMES)
    assert all(list(row) == list(NAMES) for row in table.values())
