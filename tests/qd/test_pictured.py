"""Searches that look at pictures: the autoencoder, archives placed anew, TAXONS and STAX as runs."""

import pytest
import torch

from cairn.envs.areas.make import make_vec
from cairn.qd import MLP, Evaluated, Evaluator, ImageDescriptor, Problem, Search, SearchConfig, load_grid
from cairn.qd import running as qd_running
from cairn.qd.images import prepared
from cairn.qd.views import Given, Memory, Pictures
from cairn.runs import Run, first_difference


def dots(places, size=64):
    """A dark picture with a bright square at each place, ``[P, 2]`` in 0 to 1."""
    frames = torch.zeros(len(places), size, size, 3, dtype=torch.uint8)
    for frame, (x, y) in zip(frames, (places * (size - 16)).long().tolist()):
        frame[y : y + 16, x : x + 16] = 255
    return frames


def evaluated(places):
    none = torch.full((len(places),), -1)
    return Evaluated(torch.zeros(len(places), 1), torch.zeros(len(places)), places, none, none, none < 0, dots(places))


def test_pictures_are_shrunk_by_averaging():
    frames = torch.zeros(1, 128, 128, 3, dtype=torch.uint8)
    frames[0, 0:2, 0:1, 1] = 255
    small = prepared(frames)
    assert small.shape == (1, 3, 64, 64) and small[0, 1, 0, 0] == 0.5 and small.sum() == 0.5


def test_the_autoencoder_places_what_it_sees_and_is_surprised_by_the_rest():
    places = torch.rand(48, 2, generator=torch.Generator().manual_seed(0))
    before = torch.get_rng_state()
    model = ImageDescriptor(4, epochs=6, batch=8, seed=3)
    first = model.surprise(dots(places)).mean()
    model.fit(dots(places))
    assert model.version == 1 and model.surprise(dots(places)).mean() < 0.5 * first
    odd = 255 - dots(places[:5])
    assert model.surprise(odd).min() > 2 * model.surprise(dots(places)).mean()
    twins = [ImageDescriptor(4, epochs=1, batch=16, seed=3) for _ in range(2)]
    for twin in twins:
        twin.fit(dots(places))
    assert torch.equal(twins[0].encode(dots(places)), twins[1].encode(dots(places)))
    assert torch.equal(torch.get_rng_state(), before)  # nobody else's chance was touched


class Scripted:
    """In place of the compiled loop: held-out errors that were written down, and who asked for what."""

    def __init__(self, loop, errors):
        self.loop, self.errors, self.held, self.learned = loop, list(errors), [], []

    def __call__(self, numbers, pictures, rows, redraw=True):
        self.held.append(rows)
        return None, torch.tensor([float(self.errors.pop(0))])

    def slope(self, numbers, pictures, rows):
        self.learned.append(rows)
        return torch.zeros_like(numbers)


@pytest.mark.parametrize(
    ("errors", "passes"),
    [
        ([3, 4, 5, 6, 7], 5),  # four in a row above the first
        ([9, 8, 7, 8, 7.5, 8, 6, 7, 7, 7, 7], 11),  # three in a row do not end it; nor do seven with a least between
        ([9, 8, 7, 8, 7.5, 7.2, 7.1], 7),  # they fall, but are above the least
        ([3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3], 20),  # and what only equals the least is not above it
    ],
)
def test_a_fit_ends_at_the_fourth_error_in_a_row_above_the_least(errors, passes):
    model = ImageDescriptor(2, epochs=20, batch=4, seed=0)
    loop = model._loop = Scripted(model._loop, errors)
    model.fit(dots(torch.rand(10, 2)))
    assert len(loop.learned) == 2 * passes and not loop.errors  # eight of ten pictures, four in a step
    assert all(torch.equal(rows, loop.held[0]) and len(rows) == 2 for rows in loop.held)
    assert not set(loop.held[0].tolist()) & set(torch.cat(loop.learned).tolist())


def test_a_fit_that_holds_nothing_out_learns_from_all_in_every_pass():
    model = ImageDescriptor(2, epochs=3, batch=4, held_out=0.0, seed=0)
    loop = model._loop = Scripted(model._loop, [])
    model.fit(dots(torch.rand(10, 2)))
    assert sorted(torch.cat(loop.learned).tolist()) == sorted(list(range(10)) * 3)
    with pytest.raises(ValueError, match="held_out=1"):
        ImageDescriptor(held_out=1.0)


def test_a_memory_is_placed_anew_when_the_model_has_changed():
    places = torch.rand(30, 2, generator=torch.Generator().manual_seed(0))
    view = Pictures(ImageDescriptor(3, epochs=1, seed=0))
    memory = Memory(view)
    assert len(memory.points) == 0 and len(memory.raw) == 0
    memory.add(evaluated(places[:10]))
    old = memory.points.clone()
    memory.add(evaluated(places[10:]))
    assert torch.equal(memory.points[:10], old) and len(memory.points) == 30
    assert torch.equal(memory.raw, dots(places))
    view.model.fit(dots(places))
    assert not torch.equal(memory.points[:10], old)
    assert torch.allclose(memory.points, view.model.encode(dots(places)), atol=1e-6)
    given = Memory(Given())
    given.add(evaluated(places))
    assert torch.equal(given.points, places)


def test_fits_come_after_1_3_6_10_chunks():
    view = Pictures(ImageDescriptor(2, epochs=1))
    places = torch.rand(8, 2, generator=torch.Generator().manual_seed(0))
    assert [c for c in range(1, 16) if view.learn(c, [dots(places)])] == [1, 3, 6, 10, 15]
    assert view.version == 5
    with pytest.raises(ValueError, match="frames=True"):
        blind = evaluated(places)
        blind.frames = None
        view.points(blind)


@pytest.mark.parametrize(
    ("name", "options", "total"),
    [
        ("taxons", {"population": 6, "every": 2, "epochs": 1}, 40),
        ("stax", {"population": 6, "chunk": 30, "epochs": 1, "bootstrap": 1}, 100),
    ],
)
def test_runs_that_look_at_pictures_resume_to_the_same_bits(tmp_path, name, options, total):
    def config(run, evaluations):
        return SearchConfig(
            env="cairn/RedundantArm-v0", algorithm=name, evaluations=evaluations, algorithm_args=options, lanes=32,
            env_args={"max_episode_steps": 40, "pixels": 16}, run=str(tmp_path / run), seed=1,
        )  # fmt: skip

    whole = qd_running.search(config("whole", total))
    qd_running.search(config("part", total // 2))
    again = qd_running.resume(tmp_path / "part", evaluations=total)
    assert again.scores == whole.scores
    one, two = (Run.open(tmp_path / run).latest()[2] for run in ("whole", "part"))
    assert one["search"]["digest"] == two["search"]["digest"] and one["ledger"] == two["ledger"]
    assert first_difference(*(load_grid(tmp_path / run).state_dict() for run in ("whole", "part"))) is None


def test_the_search_does_not_see_the_measures():
    """Pictures alone decide: with the measures turned about, TAXONS asks for the same genomes."""
    env = make_vec("arm", 16, max_episode_steps=20, render_mode="rgb_array", pixels=16)
    policy = MLP(env.single_observation_space, env.single_action_space)
    evaluator = Evaluator(env, policy, frames=True)
    digests = []
    for turned in (False, True):
        search = Search(
            "taxons", Problem(policy.size, *env.descriptor_bounds), {"population": 8, "every": 2, "epochs": 1}
        )
        while search.evaluations < 50:
            found = evaluator(search.ask())
            if turned:
                found.measures = 1 - found.measures.flip(0)
            search.tell(found)
        digests.append(search.state_dict()["digest"])
        if not turned:
            with pytest.raises(ValueError, match="pictures"):
                Search(
                    "taxons", Problem(policy.size, *env.descriptor_bounds), {"population": 8, "every": 2, "epochs": 1}
                ).load_state_dict(search.state_dict())
    assert digests[0] == digests[1]
