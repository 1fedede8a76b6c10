"""Learned descriptors: models on data whose answer is known, archives that are rebuilt, judges."""

import numpy as np
import pytest
import torch

from cairn.qd import PCA, AutoEncoder, Evaluated, LearnedElites, Problem, TripletDescriptor, truth
from cairn.qd.feedback import question
from cairn.qd.models import _gap


def evaluated(genomes):
    """The true outcome is the first two numbers; the objective is higher near the middle."""
    measures = torch.tanh(genomes[:, :2])
    none = torch.full((len(genomes),), -1)
    objective = 10 - genomes.square().mean(-1)
    return Evaluated(genomes, objective, measures, none, torch.ones_like(none), torch.isfinite(objective))


def features(found):
    """Outcome and distractors, mixed: the distractors vary most."""
    mixed = torch.cat([found.measures, 3 * found.genomes[:, 2:]], -1)
    turn = torch.linalg.qr(torch.randn(mixed.shape[1], mixed.shape[1], generator=torch.Generator().manual_seed(5)))[0]
    return mixed @ turn


def test_principal_components_beside_numpy():
    x = torch.randn(200, 5, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 5.0, 0.1, 2.0, 0.3])
    model = PCA(2)
    model.fit(x)
    z = model.encode(x)
    values, vectors = np.linalg.eigh(np.cov(x.numpy().T))
    want = (x.numpy() - x.numpy().mean(0)) @ vectors[:, ::-1][:, :2]
    assert np.allclose(np.abs(z.numpy()), np.abs(want), atol=1e-3) and model.version == 1
    again = PCA(2)
    again.fit(x[torch.randperm(200, generator=torch.Generator().manual_seed(1))])
    assert torch.allclose(again.encode(x), z, atol=1e-3)  # the sign is fixed


def test_an_autoencoder_learns_a_plane_and_is_surprised_by_what_is_off_it():
    g = torch.Generator().manual_seed(0)
    x = torch.rand(400, 2, generator=g) @ torch.randn(2, 10, generator=g)
    model = AutoEncoder(10, epochs=60, seed=1)
    before = model.surprise(x).mean()
    state = torch.get_rng_state()
    model.fit(x)
    assert model.surprise(x).mean() < 0.1 * before and model.encode(x).shape == (400, 2)
    off = x + torch.randn(10, generator=g)
    assert model.surprise(off).mean() > 5 * model.surprise(x).mean()
    twin = AutoEncoder(10, epochs=60, seed=1)
    twin.fit(x)
    assert torch.equal(twin.encode(x), model.encode(x))
    assert torch.equal(torch.get_rng_state(), state)  # nobody else's chance was touched


def test_the_triplet_loss_by_hand():
    ways = torch.tensor([[[1.0, 0.0], [0.0, 3.0]]])
    assert _gap(ways).tolist() == [8.0]
    assert _gap(ways @ torch.tensor([[2.0], [0.0]])).tolist() == [-4.0]


def test_the_slope_is_the_loss_functions():
    """Of the paper's loss in full, by autograd: some judgments keep the margin, and pull at nothing."""
    g = torch.Generator().manual_seed(0)
    model = TripletDescriptor(7, margin=0.5)
    reference, near, far = torch.randn(3, 40, 7, generator=g)
    weight = (0.4 * torch.randn(7, 2, generator=g)).requires_grad_()
    to_near, to_far = (((reference - x) @ weight).norm(dim=1) ** 2 for x in (near, far))
    lost = torch.relu(0.5 - (to_far - to_near))
    lost.mean().backward()
    ways = torch.stack([near - reference, far - reference], 1)
    assert torch.allclose(model.slope(ways, weight.detach()), weight.grad, atol=1e-5) and 5 < (lost > 0).sum() < 35


def test_triplets_find_the_outcome_among_distractors():
    rows = evaluated(torch.randn(300, 6, generator=torch.Generator().manual_seed(0)))
    model = TripletDescriptor(6, rate=1e-2, epochs=200)
    with pytest.raises(RuntimeError, match="judge"):
        model.fit(features(rows))
    question(model, rows, features(rows), truth(), 1000, torch.Generator().manual_seed(1))
    model.fit(features(rows))
    assert model.judgments == 1000 and model.accuracy > 0.9
    z = model.encode(features(rows))
    fit = torch.linalg.lstsq(torch.cat([z, torch.ones(300, 1)], -1), rows.measures).solution
    left = rows.measures - torch.cat([z, torch.ones(300, 1)], -1) @ fit
    assert left.square().mean() < 0.1 * rows.measures.var(0).mean()


def test_judges_err_as_often_as_they_are_told():
    rows = evaluated(torch.randn(4000, 4, generator=torch.Generator().manual_seed(0)))
    a, b, c = rows.rows(slice(0, 1000)), rows.rows(slice(1000, 2000)), rows.rows(slice(2000, 3000))
    right = truth()(a, b, c)
    one = (a.measures[0] - b.measures[0]).norm() < (a.measures[0] - c.measures[0]).norm()
    assert right[0] == one
    assert (truth(0.2, seed=1)(a, b, c) != right).float().mean().item() == pytest.approx(0.2, abs=0.04)
    with pytest.raises(ValueError, match="share"):
        truth(2.0)
    with pytest.raises(ValueError, match="three"):
        question(TripletDescriptor(4), rows.rows(slice(0, 2)), features(rows), truth(), 5, torch.Generator())


def run(elites, iterations):
    asking, sizes = elites.asking(), []
    asked = next(asking)
    for _ in range(iterations):
        sizes.append(len(asked))
        asked = asking.send(evaluated(asked))
    return sizes


@pytest.mark.parametrize("kind", ["pca", "ae", "triplets"])
def test_archives_are_rebuilt_and_hold_what_they_should(kind):
    model = {"pca": PCA, "ae": lambda: AutoEncoder(6, epochs=5), "triplets": lambda: TripletDescriptor(6, epochs=20)}
    model = model[kind]()
    problem = Problem(6, -torch.ones(2), torch.ones(2), seed=2)
    elites = LearnedElites(
        problem, features, model, updates=(1, 4, 9), judge=truth(), judgments=300, batch=40, bins=8, sigma=0.3
    )
    assert run(elites, 15) == [40] * 15
    assert model.version == 3 and elites.rebuilt == 3
    if kind == "triplets":
        assert model.judgments == 300
    kept = elites.elites
    assert len(kept) == elites.grid.occupied.sum() > 10
    # Every elite lies where the present model puts it, and its books agree with the archive's.
    cell = elites.grid.index(model.encode(features(kept)))
    assert torch.equal(cell.unique(), elites.grid.elites()["cell"])
    assert torch.equal(elites.grid.objective[cell], kept.objective)
    assert torch.equal(elites.grid.genomes[cell], kept.genomes)


def test_the_first_generation_may_be_given():
    first = torch.randn(30, 6, generator=torch.Generator().manual_seed(4))
    elites = LearnedElites(
        Problem(6, -torch.ones(2), torch.ones(2)), features, PCA(), batch=20, updates=(1,), first=first
    )
    asking = elites.asking()
    assert torch.equal(next(asking), first)
    asked = asking.send(evaluated(first))
    assert asked.shape == (20, 6) and torch.cdist(asked, first).min(-1).values.max() < 1  # children of its elites
    want = PCA()
    want.fit(features(evaluated(first)))
    assert torch.equal(elites.model.encode(features(evaluated(asked))), want.encode(features(evaluated(asked))))


def test_without_updates_the_model_stays():
    model = PCA()
    model.fit(features(evaluated(torch.randn(50, 6, generator=torch.Generator().manual_seed(0)))))
    elites = LearnedElites(Problem(6, -torch.ones(2), torch.ones(2)), features, model, batch=20, bins=8)
    run(elites, 5)
    assert model.version == 1 and elites.rebuilt == 1
    bounds = torch.tensor([-9.0, -9.0]), torch.tensor([9.0, 9.0])
    wide = LearnedElites(
        Problem(6, -torch.ones(2), torch.ones(2)), features, model, batch=20, updates=(3,), bounds=bounds
    )
    run(wide, 2)
    assert torch.equal(wide.grid.low, bounds[0]) and torch.equal(wide.grid.high, bounds[1])
    run(wide, 3)
    assert wide.rebuilt == 2 and wide.grid.high.max() < 9
    with pytest.raises(ValueError, match="judge="):
        LearnedElites(Problem(6, -torch.ones(2), torch.ones(2)), features, TripletDescriptor(6), updates=(1,))
    with pytest.raises(RuntimeError, match="yet"):
        _ = LearnedElites(Problem(6, -torch.ones(2), torch.ones(2)), features, model).elites
