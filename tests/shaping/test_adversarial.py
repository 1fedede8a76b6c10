"""Discriminators as rewards: what they learn, gradient penalties by hand, ends, PURPLE, AIRL's parts, the laws."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.nn import functional as F

from cairn.shaping import Stretch, World
from cairn.shaping.adversarial import AIRL, FAR, Adversarial, slope_of

BOX, TWO = spaces.Box(-10.0, 10.0, (2,), np.float32), spaces.Discrete(2)


def rows(centre, n=200, seed=0, action=1, ends=None):
    """States around (centre, 0), all with one action."""
    at = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed)) * 0.3
    at[:, 0] += centre
    ends = torch.zeros(n, dtype=torch.bool) if ends is None else ends
    action = torch.full((n,), action)
    return Stretch.make(obs=at, next_obs=at + 0.1, reward=torch.zeros(n), terminated=ends, action=action)


class Lived:
    """A source that always lived these rows."""

    def __init__(self, x):
        self.x, self.generator = x, torch.Generator().manual_seed(1)

    def sample(self, n):
        return self.x[torch.randint(len(self.x.valid), (n,), generator=self.generator)]


class Policy:
    def log_prob(self, x):
        return torch.full(x.rows, -0.7)


def bound(cls=Adversarial, demos=None, **settings):
    term = cls(rows(1.0) if demos is None else demos, **settings)
    term.bind(World(BOX, TWO, gamma=0.9, seed=3, ask=Policy()))
    return term


@pytest.mark.parametrize("form", ["softplus", "log", "logit"])
def test_demonstrated_states_come_to_be_paid_more(form):
    term = bound(form=form, steps=60, learning_rate=3e-3, penalty=0.1)
    for step in range(3):
        logs = term.update(Lived(rows(-1.0, seed=5)), step)
    good, bad = term.score(rows(1.0, seed=8)), term.score(rows(-1.0, seed=9))
    assert (good.min() > bad.max()).item() and float(logs["accuracy"]) > 0.95
    sign = {"softplus": bool((bad >= 0).all()), "log": bool((good <= 0).all()), "logit": bool((bad < 0).all())}
    assert sign[form]


def test_the_forms_by_hand():
    term, x = bound(), rows(0.0, n=5)
    logit = term.logit(term.inputs_of(x))
    d = logit.sigmoid()
    for form, by_hand in (("softplus", -(1 - d).log()), ("log", d.log()), ("logit", logit)):
        term.form = form
        assert torch.allclose(term.score(x), by_hand, atol=1e-6)


def test_inputs_are_whitened_by_the_demonstrations_and_actions_one_hot():
    demos = rows(1.0)
    inputs = bound(demos=demos).inputs_of(demos)
    assert inputs.shape == (200, 4)
    assert torch.allclose(inputs[:, :2].mean(0), torch.zeros(2), atol=1e-5)
    assert torch.allclose(inputs[:, :2].std(0, unbiased=False), torch.ones(2), atol=1e-5)
    assert inputs[:, 2:].unique(dim=0).tolist() == [[0.0, 1.0]]
    assert bound(actions=False).inputs_of(demos).shape == (200, 2)
    assert bound(next_states=True, absorbing=True).inputs_of(demos).shape == (200, 7)


def test_the_gradient_penalty_by_hand():
    """A linear logit of slope 5: (5 - 1)^2 = 16, nothing for slopes within the limit unless two-sided."""
    term = bound()
    at = torch.randn(10, 4)
    for slope, one, two in ((5.0, 16.0, 16.0), (0.5, 0.0, 0.25)):
        term.logit = lambda v, slope=slope: slope * v[:, 0]
        assert float(slope_of(term.logit, at, create_graph=False)[0]) == pytest.approx(slope)
        for where in ("between", "expert", "learner", "both"):
            term.penalised, term.two_sided = where, False
            assert float(term.gradient_penalty(at, at + 1)) == pytest.approx(one, abs=1e-5)
        term.two_sided = True
        assert float(term.gradient_penalty(at, at)) == pytest.approx(two, abs=1e-5)


def test_the_penalty_keeps_the_learned_reward_smooth():
    steep = {}
    for penalty in (0.0, 10.0):
        term = bound(penalty=penalty, steps=150, learning_rate=3e-3)
        for step in range(2):
            term.update(Lived(rows(0.0, seed=5)), step)
        at = term.inputs_of(rows(0.5, seed=7))
        steep[penalty] = float(slope_of(term.logit, at, create_graph=False).max())
    assert steep[10.0] < 1.6 < 3 < steep[0.0]


def test_spectral_norms_bound_the_slope():
    before = torch.get_rng_state()
    term = bound(spectral=True, steps=100, learning_rate=1e-2, penalty=0.0)
    assert torch.equal(torch.get_rng_state(), before)
    for step in range(2):
        term.update(Lived(rows(0.0, seed=5)), step)
    at = term.inputs_of(rows(0.5, seed=7))
    assert float(slope_of(term.logit, at, create_graph=False).max()) < 1.1


def test_an_end_is_paid_for_all_that_would_have_followed():
    term = bound(absorbing=True, form="logit")
    ends = torch.tensor([False, True, False])
    x = rows(0.5, n=3, ends=ends)
    inputs = term.inputs_of(x)
    after = torch.zeros(1, 5)
    after[0, 4] = FAR
    by_hand = term.logit(inputs) + ends * 9.0 * term.logit(after)  # gamma / (1 - gamma) = 9
    assert torch.allclose(term.score(x), by_hand, atol=1e-5)
    mine, theirs = term.both(x, rows(0.0, n=4))
    assert len(mine) == 4 and len(theirs) == 4 and torch.equal(mine[3:], after)


def test_survival_is_worth_nothing_where_the_demonstrator_ends():
    """Ends are common in the demonstrations and rare in what was lived: the state after the end comes to pay well."""
    ends = torch.arange(200) % 4 == 0
    term = bound(demos=rows(1.0, ends=ends), absorbing=True, form="logit", steps=100, learning_rate=3e-3, penalty=0.1)
    for step in range(2):
        term.update(Lived(rows(1.0, seed=5)), step)
    after = torch.zeros(1, 5)
    after[0, 4] = FAR
    assert float(term.logit(after)) > 1.0


def test_a_steady_logit_can_still_tell_the_state_after_an_end():
    """Only the learner's episodes end. Beside the demonstrations' mean its state would be paid as they are, for ever.

    A logit whose slope is 1 at most cannot fall by more than 1 over an indicator of 1; here it has 10.
    """
    ends = torch.arange(200) % 4 == 0
    term = bound(absorbing=True, steps=200, learning_rate=3e-3, penalty=10.0)
    for step in range(3):
        term.update(Lived(rows(0.0, ends=ends, seed=5)), step)
    shown = term.inputs_of(rows(1.0))
    after = term.ended(shown)
    assert float(slope_of(term.logit, shown, create_graph=False).mean()) < 1.2
    with torch.no_grad():
        assert float(term.logit(after)) < -3.0 < 0.5 < float(term.logit(shown).mean())


def test_purple_shrinks_by_at_most_three_tenths():
    term = bound(purple=True, form="softplus", steps=5)
    x = rows(0.0, n=50)
    plain = F.softplus(term.logit(term.inputs_of(x)))
    assert torch.allclose(term.score(x), plain)  # a fresh model is not steep
    with torch.no_grad():
        for layer in term.model:
            if hasattr(layer, "weight"):
                layer.weight.mul_(4.0)
    excess = term.excess(x)
    term.steepness = excess.std()
    share = (-excess / excess.std()).exp().clamp(0.7, 1.0)
    assert torch.allclose(term.score(x), plain * share) and 0 < int((share == 0.7).sum())
    logs = term.update(Lived(rows(0.0)), 1)
    assert set(logs) == {"loss", "penalty", "accuracy"} and float(term.steepness) > 0


def test_airls_parts_by_hand():
    term = bound(AIRL, form="logit")
    ends = torch.tensor([False, True])
    x = rows(0.3, n=2, ends=ends)
    g, h = (lambda v, n=n: term.network[n](v)[:, 0] for n in "gh")
    now, then = term.state_of(x.obs), term.state_of(x.next_obs)
    f = g(now) + 0.9 * h(then) * ~ends - h(now)
    assert torch.allclose(term.score(x), f + 0.7, atol=1e-6)
    x.extra["log_prob"] = torch.tensor([-1.0, -2.0])
    assert torch.allclose(term.score(x), f + torch.tensor([1.0, 2.0]), atol=1e-6)
    assert torch.allclose(term.state_reward().score(x), g(now))
    term.update(Lived(x[torch.zeros(300, dtype=torch.int64)]), 0)
    with pytest.raises(ValueError, match="this seat has none"):
        AIRL(rows(1.0)).bind(World(BOX, TWO))
    with pytest.raises(ValueError, match="does not take absorbing"):
        AIRL(rows(1.0), absorbing=True)


def test_scores_are_pure():
    """Any subset, any order, junk in invalid rows, the same state twice."""
    term = bound(absorbing=True, purple=True, spectral=True, steps=3)
    term.update(Lived(rows(0.0)), 0)
    x = rows(0.2, n=12)
    whole = term.score(x)
    assert torch.allclose(term.score(x[torch.tensor([5, 2])]), whole[[5, 2]], atol=1e-6)
    assert torch.allclose(term.score(x.map(lambda v: v.reshape(3, 4, *v.shape[1:]))), whole.reshape(3, 4), atol=1e-6)
    junk = x.map(torch.clone)
    junk.valid[4], junk.obs[4] = False, float("nan")
    assert torch.allclose(term.score(junk)[5:], whole[5:], atol=1e-6) and torch.equal(term.score(x), whole)


def test_a_state_put_back_goes_on_to_the_same_bits():
    one, other = bound(steps=4, spectral=True), bound(steps=4, spectral=True)
    one.update(Lived(rows(0.0)), 0)
    other.load(one.state())
    x = rows(0.2, n=5)
    assert torch.equal(one.score(x), other.score(x))
    for term in (one, other):
        term.update(Lived(rows(0.5)), 1)
    assert torch.equal(one.score(x), other.score(x))


@pytest.mark.parametrize(
    "settings",
    [
        {"form": "softmax"},
        {"penalised": "nowhere"},
        {"penalty": -1},
        {"smooth": (1.2, 0.7)},
        {"steps": 0},
        {"limit": 0},
    ],
)
def test_bad_settings(settings):
    with pytest.raises(ValueError):
        Adversarial(rows(1.0), **settings)


def test_bad_demonstrations():
    with pytest.raises(ValueError, match="got none"):
        Adversarial(rows(1.0)[:0]).bind(World(BOX, TWO))
    with pytest.raises(ValueError, match="gamma is 1"):
        Adversarial(rows(1.0), absorbing=True).bind(World(BOX, TWO, gamma=1.0))
