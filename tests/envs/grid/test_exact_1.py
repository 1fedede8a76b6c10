"""Every fourth id, from number 1 on, beside upstream: the same keys and actions, and the same everything."""

import pytest

from cairn.envs.grid.beside import COUNTED, Beside, Counter
from cairn.envs.grid.ids import GRID_IDS

IDS = GRID_IDS[1::4]  # four files, so that two workers of the suite have something to do
COUNTS: Counter[str] = Counter()
PLAYED: set[str] = set()


@pytest.mark.parametrize("upstream", IDS)
def test_levels(upstream):
    Beside(upstream, lanes=25, seed=5).levels(1000)


@pytest.mark.parametrize("upstream", IDS)
def test_steps(upstream):
    beside = Beside(upstream, seed=9)
    beside.play(10_000)
    PLAYED.add(upstream)
    COUNTS.update(beside.counts)


def test_play_had_events():
    """What was compared must have been worth it (with xdist that takes ``--dist loadfile``, as in ``make test``)."""
    if set(IDS) != PLAYED:
        pytest.skip("only a part of test_steps was asked for")
    assert all(COUNTS[name] >= 100 for name in COUNTED), COUNTS
