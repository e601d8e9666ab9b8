import numpy as np

from harness.statistics import directions


def test_single_directions():
    assert directions.up(3).tolist() == [1, 1, 1]
    assert directions.down(2).tolist() == [-1, -1]


def test_splits_raise_at_or_below_the_middle():
    assert directions.mos_split([0.1, 0.5, 0.9], 0.5).tolist() == [1, 1, -1]
    assert directions.self_split([30.0, 20.0], 25.0).tolist() == [-1, 1]


def test_pair_raises_the_rejected_patch():
    p0, p1 = directions.pair([0.8, 0.2, 0.5])
    assert p0.tolist() == [1, -1, -1]
    assert p1.tolist() == [-1, 1, 1]


def test_random_sign_is_fair_and_belongs_to_the_sample():
    names = [f"s{i}" for i in range(4000)]
    signs = directions.random_sign(names, 0)
    # Standard error of the mean of 4,000 fair signs is 0.016.
    assert abs(signs.mean()) < 0.06
    assert set(signs.tolist()) == {-1, 1}
    np.testing.assert_array_equal(directions.random_sign(names[::-1], 0), signs[::-1])
    assert (directions.random_sign(names, 1) != signs).any()
