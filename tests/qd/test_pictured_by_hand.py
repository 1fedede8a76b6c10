"""What TAXONS and STAX do with their pictures, step by step, by a model that reads places and surprises off them."""

from types import SimpleNamespace

import pytest
import torch

from cairn.qd import Evaluated, Problem, pictured
from cairn.qd.serene import alternate
from cairn.qd.views import Placed


class Reading:
    """In place of the autoencoder: the first pixel says where a picture lies, the second one how surprising it is."""

    made: list["Reading"] = []

    def __init__(self, *args, **kwargs):
        self.version, self.fits = 0, []
        Reading.made.append(self)

    def encode(self, frames):
        return frames[:, 0, 0, :2].float()

    def surprise(self, frames):
        return frames[:, 0, 1, 0].float()

    def fit(self, frames):
        self.fits.append(frames.clone())
        self.version += 1


@pytest.fixture(autouse=True)
def reading(monkeypatch):
    Reading.made.clear()
    monkeypatch.setattr(pictured, "ImageDescriptor", Reading)


def problem():
    return Problem(3, torch.zeros(2), torch.ones(2))


def seen(genomes, places, surprise=None, objective=None):
    frames = torch.zeros(len(genomes), 2, 2, 3, dtype=torch.uint8)
    frames[:, 0, 0, :2] = torch.tensor(places, dtype=torch.uint8)
    frames[:, 0, 1, 0] = torch.tensor(surprise or [0] * len(genomes), dtype=torch.uint8)
    none, paid = torch.full((len(genomes),), -1), torch.tensor(objective or [0.0] * len(genomes))
    return Evaluated(genomes, paid, frames[:, 0, 0, :2].float(), none, none, none < 0, frames)


def parents(search, candidates):
    """Which of the candidates are the parents now."""
    now = search.gi_frame.f_locals["parents"].genomes
    return [int((candidates == row).all(-1).nonzero()[0]) for row in now]


def test_taxons_keeps_and_archives_the_most_novel():
    """One parent with two children on a line; novelty by hand, among the three and the archive."""
    search = pictured.taxons(
        problem(), population=1, offspring=2, sigma=1e-3, neighbours=1, archived=1, every=100
    )  # fmt: skip
    start = next(search)
    one = search.send(seen(start, [[0, 0]]))
    two = search.send(seen(one, [[10, 0], [50, 0]]))  # 10, 10 and 40: the last one stays and is archived
    assert parents(search, torch.cat([start, one])) == [2]
    three = search.send(seen(two, [[60, 0], [35, 0]]))  # 0 (it is in the archive), 10 and 15
    assert parents(search, torch.cat([one[1:], two])) == [2]
    search.send(seen(three, [[48, 0], [25, 0]]))  # 13 away from its parent, but 2 from the archive's 50; 10
    assert parents(search, torch.cat([two[1:], three])) == [2]


def test_taxons_learns_from_what_is_new_and_from_its_archive():
    search = pictured.taxons(problem(), population=1, offspring=1, archived=1, every=2)
    shown, asked = [], next(search)
    for i in range(6):
        shown.append(seen(asked, [[i, 7 * i]]))
        asked = search.send(shown[-1])
    (model,) = Reading.made
    order = [[0, 1, 2, 1, 2], [3, 4, 1, 2, 3, 4]]  # with the first population, then without; the archive comes last
    assert [fit[:, 0, 0, 0].tolist() for fit in model.fits] == order


def test_a_coin_falls_between_novelty_and_surprise_once_there_is_a_model():
    """Of two children one is far and dull, the other near and surprising."""
    search = pictured.taxons(
        problem(), population=1, offspring=2, sigma=1e-3, neighbours=1, archived=0, every=5
    )  # fmt: skip
    asked, at, won = next(search), 0, []
    before = asked
    asked = search.send(seen(asked, [[at, at]]))
    for i in range(65):
        far = 255 - at
        children = search.send(seen(asked, [[far, far], [at, at]], [0, 100 + i]))
        won += parents(search, torch.cat([before, asked]))
        before, at = asked[won[-1] - 1][None], far if won[-1] == 1 else at
        asked = children
    assert won[:5] == [1] * 5  # novelty alone until the first fit
    assert set(won) == {1, 2} and 15 <= won[5:].count(2) <= 45


class Scaled:
    """A view by measures in whose second version everything is a hundredth as far apart; the leftmost survive."""

    def __init__(self, due):
        self.version, self.due, self.known = 0, due, []

    def raw(self, found):
        return found.measures

    def place(self, raw):
        return raw / 100**self.version

    def points(self, found):
        return self.place(self.raw(found))

    def rank(self, found, novel, problem):
        return -found.measures[:, 0]

    def learn(self, chunks, known):
        self.known.append((chunks, [part.clone() for part in known]))
        self.version += chunks == self.due
        return chunks == self.due


OPTIONS = {"population": 2, "offspring": 1, "sigma": 1e-3, "neighbours": 1, "archived": 1, "emitter": "elitist"}


def test_stax_ranks_by_its_view_and_learns_from_all_that_it_keeps():
    view = Scaled(due=9)
    search = alternate(problem(), view, **OPTIONS, chunk=4, emitter_population=2, bootstrap=2)
    start = next(search)
    young = search.send(seen(start, [[5, 0], [9, 0]], objective=[0.5, 0.0]))
    asked = search.send(seen(young, [[7, 0], [1, 0]]))  # the leftmost are 5 and 1; the chunk ends, one earns
    (chunks, (archive, paid, both)) = view.known[0]
    assert chunks == 1 and both[:, 0].tolist() == [5, 9, 7, 1] and paid[:, 0].tolist() == [5]
    assert len(archive) == 1 and int(archive[0, 0]) in (7, 1)
    assert parents(search, torch.cat([start, young])) == [3, 0] and len(asked) == 2


def test_emitters_rank_novelty_afresh_when_the_model_has_changed():
    """An emitter that went far in the old space goes on to collect what is novel in the new, smaller one."""
    view = Scaled(due=2)
    search = alternate(problem(), view, **OPTIONS, chunk=100, emitter_population=2, bootstrap=4)
    local = SimpleNamespace(asked=next(search), step=0)

    def send(place, objective):
        count = len(local.asked)
        local.asked = search.send(seen(local.asked, [[place, 0]] * count, objective=[objective] * count))

    send(3, 0.0)
    for _ in range(300):
        local.step += 1
        send(3, 0.01 * local.step)
        if search.gi_frame.f_locals["running"]:
            break

    def collected():
        return sum(len(part) for e in search.gi_frame.f_locals["running"] for part in e.candidates)

    for _ in range(300):  # far away, as far as can be, in the old space
        local.step += 1
        send(200, 0.01 * local.step)
        if view.version:
            break
    had = collected()
    assert had
    for i in range(20):
        local.step += 1
        send(50 + 3 * i, 0.01 * local.step)
    assert collected() > had


def test_parents_are_placed_anew_when_the_view_has_changed():
    """Until then they lie where they lay, and are not looked at again."""
    view, placed = Scaled(due=1), []
    view.points = lambda found: (placed.append(len(found)), view.place(found.measures))[1]
    known, rows = Placed(view), torch.eye(3)
    parents, young = seen(rows[:2], [[100, 0], [50, 0]]), seen(rows[:1], [[10, 0]])
    assert known.points(parents, young)[:, 0].tolist() == [100, 50, 10]
    known.keep(torch.tensor([[50.0, 0.0], [10.0, 0.0]]))
    placed.clear()
    assert known.points(young, young)[:, 0].tolist() == [50, 10, 10] and placed == [1]
    view.learn(1, [])
    assert known.points(parents, young)[:, 0].tolist() == pytest.approx([1, 0.5, 0.1])
