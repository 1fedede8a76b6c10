"""E3B: pay for what lies outside the ellipse of the episode's states, seen by features of what actions do.

Henaff, Raileanu, Jiang and Rocktaeschel, "Exploration via elliptical episodic bonuses", NeurIPS 2022.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ..envs.native import Spread
from .dynamics import Dynamics
from .networks import Moments
from .stretch import Stretch
from .term import Source, Stream, Term, World


class E3B(Stream):
    """``phi(s')^T C^-1 phi(s')``, where ``C = ridge * I + sum of phi phi^T`` over the episode's states before ``s'``.

    The features ``phi`` are those of a network that tells from two states which action lay between (section 3.2), so
    that what the agent cannot influence counts for little; ``update`` trains it. The inverse is kept by the formula of
    Sherman and Morrison, one ``[d, d]`` for each lane, and begins anew with each episode, whose first state is in it.
    Features may change in the middle of an episode; what is in the ellipse stays as it was seen.

    Args:
        normalise: Divide by the running root mean square of the bonus; False leaves the plain bonus.
        ridge: The paper's lambda. It has 0.1 there; with these features 1 did better on DoorKey.
        features: d, the width of ``phi``.
        hidden: Width of the networks' hidden layers.
        learning_rate: Of the inverse model's optimiser (Adam).
        share: Which share of the rows it is trained on.

    Raises:
        ValueError: A setting is out of its range.
    """

    text_name = "e3b"
    saved = ("dynamics", "scale", "updates")
    memory = ("ellipse",)

    def __init__(
        self,
        normalise: bool = True,
        ridge: float = 1.0,
        features: int = 32,
        hidden: int = 128,
        learning_rate: float = 3e-4,
        share: float = 0.125,
    ) -> None:
        if not (0 < share <= 1 and 0 < ridge < float("inf") and 0 < learning_rate < float("inf")):
            raise ValueError(
                f"E3B(ridge={ridge}, learning_rate={learning_rate}, share={share}): all are above 0, and a share is at "
                "most 1"
            )
        if min(features, hidden) < 1:
            raise ValueError(f"E3B(features={features}, hidden={hidden}): widths are above 0")
        self.normalised, self.ridge, self.features, self.hidden = bool(normalise), float(ridge), features, hidden
        self.learning_rate, self.share = float(learning_rate), float(share)
        self.updates = 0
        self.dynamics: Dynamics | None = None
        self.scale = Moments()
        self.ellipse = torch.zeros(1, features, features)  # C^-1 of each lane

    def bind(self, world: World) -> None:
        """Build the networks for observations and actions.

        Raises:
            TypeError: The actions are neither categories nor numbers.
        """
        self.dynamics = Dynamics(world, self.features, self.hidden, self.learning_rate)
        self.scale = Moments(device=world.device)
        eye = torch.eye(self.features, device=world.device) / self.ridge
        self.ellipse = eye.repeat(world.lanes, 1, 1)
        self.updates = 0

    def scan(self, x: Stretch, *inputs: Tensor) -> Tensor:
        """The bonus of each row of the next ``[T, N]``. A loop over time: each state changes the ellipse."""
        assert self.dynamics is not None
        begins, features = x.start & x.valid, self.dynamics.along(x)
        value = self._walk(begins, features) if x.device.type == "cpu" else self._walk_torch(begins, features)
        return value / self.unit() if self.normalised else value

    def _walk(self, begins: Tensor, features: Tensor) -> Tensor:
        """The plain bonus ``[T, N]`` along features ``[2, T, N, d]``, on a CPU; the ellipses go along."""
        (steps, lanes), paid = begins.shape, torch.empty(begins.shape)
        ridge = torch.tensor([1 / self.ridge])
        _walker(self.features)(lanes, self.ellipse, features, begins.contiguous(), ridge, paid, steps, lanes)
        return paid

    def _walk_torch(self, begins: Tensor, features: Tensor) -> Tensor:
        """The same on other devices."""
        before, after = features
        fresh = torch.eye(self.features, device=begins.device) / self.ridge
        ellipse, paid = self.ellipse.clone(), []
        for t, some in enumerate(begins.any(1).tolist()):
            if some:
                ellipse = torch.where(begins[t, :, None, None], fresh, ellipse)
                _widen(ellipse, before[t])
            paid.append(_widen(ellipse, after[t]))  # rows that are not valid have features of 0, which change nothing
        self.ellipse = ellipse
        return torch.stack(paid)

    def unit(self) -> Tensor:
        """The running root mean square; 1 before there is one."""
        return self.scale.root_mean_square

    def update(self, source: Source, step: int) -> dict[str, Tensor]:
        """Learn scale and whitening, then train the inverse model on a share of the rows."""
        assert self.dynamics is not None
        x = source.recent
        if not bool(x.valid.any()):
            return {}
        raw = source.values[self] * self.unit() if self.normalised else source.values[self]
        self.scale.add(raw[x.valid])
        logs = self.dynamics.learn(x, self.share, self.updates)
        self.updates += 1
        return {**logs, "raw": raw[x.valid].mean()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Put back what ``state`` gave."""
        if state["ellipse"].shape != self.ellipse.shape:
            raise ValueError(
                f"the saved ellipses have shape {list(state['ellipse'].shape)}, and here they have "
                f"{list(self.ellipse.shape)}: another number of environments, or other features"
            )
        super().load(state)

    @classmethod
    def examples(cls) -> list[Term]:
        """With and without a scale."""
        return [cls(), cls(normalise=False, ridge=0.1, features=4, hidden=16)]


def _widen(ellipse: Tensor, features: Tensor) -> Tensor:
    """The bonus of ``features [N, d]``, which are then taken into ``C^-1 [N, d, d]`` in place."""
    reach = torch.bmm(ellipse, features[..., None])[..., 0]
    bonus = (reach * features).sum(1)
    ellipse.baddbmm_(reach[:, :, None], (reach / (1 + bonus[:, None]))[:, None], alpha=-1)
    return bonus


@cache
def _walker(features: int) -> Spread:
    """The walk on a CPU, lane by lane: an ellipse stays in the cache."""
    arguments = {
        "ellipse": "float*", "features": "const float*", "begins": "const bool*", "ridge": "const float*",
        "paid": "float*", "steps": "long long", "lanes": "long long",
    }  # fmt: skip
    return Spread("elliptical bonus", arguments, f"\nconst int WIDTH = {features};\n" + _WALK, 16)


_WALK = """
auto widen = [](float* c, const float* f) {
    _Pragma("clang fp reassociate(on) contract(fast)")
    float reach[WIDTH], over[WIDTH];
    for (int i = 0; i < WIDTH; ++i)
        reach[i] = 0.0f;
    for (int j = 0; j < WIDTH; ++j)  // a column is a row: the matrix is symmetric
        for (int i = 0; i < WIDTH; ++i)
            reach[i] += f[j] * c[j * WIDTH + i];
    float bonus = 0.0f;
    for (int i = 0; i < WIDTH; ++i)
        bonus += reach[i] * f[i];
    for (int i = 0; i < WIDTH; ++i)
        over[i] = reach[i] / (1.0f + bonus);
    for (int j = 0; j < WIDTH; ++j)
        for (int i = 0; i < WIDTH; ++i)
            c[j * WIDTH + i] -= reach[j] * over[i];
    return bonus;
};
for (long long lane = from; lane < from + count; ++lane) {
    float* c = ellipse + lane * WIDTH * WIDTH;
    for (long long t = 0; t < steps; ++t) {
        if (begins[t * lanes + lane]) {
            for (int j = 0; j < WIDTH; ++j)
                for (int i = 0; i < WIDTH; ++i)
                    c[j * WIDTH + i] = i == j ? ridge[0] : 0.0f;
            widen(c, features + (t * lanes + lane) * WIDTH);
        }
        // Rows that are not valid have features of 0, which change nothing.
        paid[t * lanes + lane] = widen(c, features + ((steps + t) * lanes + lane) * WIDTH);
    }
}
"""
