"""Hierarchical options from a reward machine (HRM), in tables: which edge to take, and how.

Toro Icarte, Klassen, Valenzano and McIlraith, "Reward Machines: Exploiting Reward Function Structure in Reinforcement
Learning", JAIR 2022, section 4.2.
"""

from typing import Any, cast

import torch
from torch import Tensor

from ..envs.batch import BatchEnv, find_wrapper
from ..shaping.machine_batch import MachineBatch
from ..shaping.machine_potential import MachinePotential
from ..shaping.machines import RewardMachine
from ..shaping.stretch import Stretch
from .tabular_base import TabularAgent


class HRM(TabularAgent):
    """One option for each edge that leaves its state, all learned from every step; above them, which option to take.

    Option (u, v) is rewarded as the machine pays in u, with ``bonus`` more when the step leads to v, and ``malus`` more
    when it leads elsewhere or ends the episode; both end the option. Every step teaches all options, whatever is
    followed: Q_o(s, a) += alpha (r_o + gamma max Q_o(s', .) - Q_o(s, a)). The controller learns by SMDP Q-learning
    (Sutton, Precup and Singh, 1999), Q(s, u, o) += alpha (sum_i gamma^i r_i + gamma^k max Q(s', u', .) - Q(s, u, o))
    over the k steps that the option took. Options that cannot be told apart by the best path are why HRM may settle
    for less than the optimum.

    Args:
        env: A ``MachineEnv`` of a batch with Discrete observations.
        learning_rate: alpha of the options; a number, or one for each lane, ``[N]``.
        controller_rate: alpha of the controller; the options', by default.
        epsilon: Chance of a random action, and at each choice of a random option.
        gamma: The discount.
        initial: All Q before learning.
        bonus: Paid to an option that has reached its edge's end.
        malus: Paid to one that has ended otherwise (the reference has 0).
        shaping: A ``MachinePotential`` that options and controller are shaped by, or the potentials of the machine's
            states themselves (``[U]``, or a row for each lane), or None.
        seed: Of the environments and of exploration.

    Attributes:
        options: Int64 ``[O, 2]``, the pairs (u, v).
        q: Of the options, float64 ``[N, O, C, A]``, C being the states of the environment without the machine.
        controller: Float64 ``[N, C, U, O]``, -inf where the option does not begin in u.

    Raises:
        TypeError: The environment shows no machine.
        ValueError: No edge of the machine leaves its state.
    """

    def __init__(
        self,
        env: BatchEnv,
        *,
        learning_rate: float | Tensor = 0.1,
        controller_rate: float | Tensor | None = None,
        epsilon: float = 0.1,
        gamma: float = 0.99,
        initial: float = 0.0,
        bonus: float = 1.0,
        malus: float = 0.0,
        shaping: MachinePotential | Tensor | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(env, gamma=gamma, seed=seed)
        wrapped = find_wrapper(self.env, MachineBatch)
        if wrapped is None or not hasattr(wrapped.machine, "pairs"):
            raise TypeError("HRM makes its options of a reward machine's edges: give it MachineEnv(batch, machine)")
        if not 0 <= epsilon <= 1:
            raise ValueError(f"epsilon={epsilon}: it is a probability")
        machine = self.machine = wrapped.machine
        if not machine.pairs:
            raise ValueError("no edge of the machine leads to another state, so that there are no options")
        self.epsilon, self.bonus, self.malus = epsilon, float(bonus), float(malus)
        self.rate = _per_lane(learning_rate, self.lanes, self.device)
        self.controller_rate = self.rate if controller_rate is None else _per_lane(
            controller_rate, self.lanes, self.device
        )  # fmt: skip
        self.options = torch.tensor(machine.pairs, device=self.device)
        many, self.sizes = len(self.options), len(machine)
        self.cells = self.states // self.sizes
        shape = (self.lanes, many, self.cells, self.actions)
        self.q = torch.full(shape, float(initial), dtype=torch.float64, device=self.device)
        begins = self.options[:, 0] == torch.arange(self.sizes, device=self.device)[:, None]  # [U, O]
        table = torch.where(begins, float(initial), -torch.inf).double()
        self.controller = table.expand(self.lanes, self.cells, self.sizes, many).clone()
        self._stuck = ~begins.any(1) & ~machine.final.to(self.device)
        self._target, self._reward = machine.target.to(self.device), machine.reward.double().to(self.device)
        self._final = machine.final.to(self.device)
        self._phi = _potentials(shaping, machine, gamma).to(self.device).expand(self.lanes, self.sizes)
        # The option under way: which (-1 for none), the state where it began, its return and gamma^k.
        self._option = torch.full((self.lanes,), -1, dtype=torch.int64, device=self.device)
        self._origin = torch.zeros(2, self.lanes, dtype=torch.int64, device=self.device)
        self._gained = torch.zeros(2, self.lanes, dtype=torch.float64, device=self.device)
        self._all = torch.arange(many, device=self.device)

    def tables(self) -> dict[str, Tensor]:
        """The options, the controller, and the option under way in each lane."""
        under_way = {"option": self._option, "origin": self._origin, "gained": self._gained}
        return {"q": self.q, "controller": self.controller, **under_way}

    def policy(self, deterministic: bool = False) -> Tensor:
        """Probabilities ``[N, C * U, A]``: the best option's best action, as if it was chosen anew in every state."""
        option = self.controller.argmax(-1)  # [N, C, U]
        cell = torch.arange(self.cells, device=self.device)[None, :, None]
        q = self.q[self._lane[:, None, None], option, cell]  # [N, C, U, A]
        best = torch.nn.functional.one_hot(q.argmax(-1), self.actions).to(self.q.dtype).flatten(1, 2)
        return best if deterministic else (1 - self.epsilon) * best + self.epsilon / self.actions

    def _act(self, obs: Tensor) -> Tensor:
        cell, state = obs // self.sizes, obs % self.sizes
        if bool(self._stuck[state].any()):
            name = self.machine.states[int(state[self._stuck[state]][0])]
            raise ValueError(f"the machine is in {name!r}, from which no option leads: give it an edge, or end there")
        draws = self._draws(2 * self.actions + 4 + len(self.options))
        values = self.controller[self._lane, cell, state]
        ranks = draws[:, self.actions + 4 : self.actions + 4 + len(self.options)]
        may = values > -torch.inf
        best = torch.where(values == values.amax(-1, keepdim=True), ranks, -1.0)
        chosen = torch.where((draws[:, :1] < self.epsilon), torch.where(may, ranks, -1.0), best).argmax(-1)
        fresh = self._option < 0
        self._origin = torch.where(fresh, torch.stack([cell, state]), self._origin)
        self._gained = torch.where(fresh, torch.tensor([[0.0], [1.0]], device=self.device).double(), self._gained)
        self._option = torch.where(fresh, chosen, self._option)
        values = self.q[self._lane, self._option, cell]
        best = torch.where(values == values.amax(-1, keepdim=True), draws[:, 4 : self.actions + 4], -1.0).argmax(-1)
        other = (draws[:, 2] * self.actions).long()
        return torch.where(draws[:, 1] < self.epsilon, other, best)

    def _draws(self, width: int, first: int = 1) -> Tensor:
        from ..envs.tabular.draws import uniform

        every = 2 * self.actions + 5 + len(self.options)  # of each step: the base class's block is too small
        counter = self.steps * every + torch.arange(first, first + width, device=self.device)
        return uniform(self._keys[:, None], counter)

    def _learn(self, x: Stretch) -> None:
        obs, after = cast(Tensor, x.obs), cast(Tensor, x.next_obs)
        cell, next_cell, next_state = obs // self.sizes, after // self.sizes, after % self.sizes
        letter, env_ended = x.next_facts["letter"], x.next_facts["env_terminated"]
        self._learn_options(x, cell, next_cell, letter, env_ended)
        # The controller. Shaped by the machine's own states; at the end of the task the potential is 0.
        state = obs % self.sizes
        shaped = (
            self.gamma * torch.where(x.terminated, 0.0, self._phi[self._lane, next_state])
            - self._phi[self._lane, state]
        )
        gained, factor = self._gained
        self._gained = torch.stack([gained + factor * (x.reward.double() + shaped), factor * self.gamma])
        over = (next_state != state) | x.done
        goes_on = self.controller[self._lane, next_cell, next_state].amax(-1)
        goes_on = torch.where(x.terminated | ~torch.isfinite(goes_on), 0.0, goes_on)
        target = self._gained[0] + self._gained[1] * goes_on
        at = (self._lane, self._origin[0], self._origin[1], self._option)
        old = self.controller[at]
        self.controller[at] = torch.where(over, old + self.controller_rate * (target - old), old)
        self._option = torch.where(over, -1, self._option)

    def _learn_options(
        self, x: Stretch, cell: Tensor, next_cell: Tensor, letter: Tensor, env_ended: Tensor
    ) -> None:  # fmt: skip
        """Every option, from every lane's step: all ``[N, O]``."""
        begin, end = self.options.T
        reached = self._target[begin, letter[:, None]]  # where the machine would be, had it been in u
        reward = self._reward[begin, letter[:, None]]
        done = env_ended[:, None] | (reached != begin)
        there = torch.where(env_ended[:, None] | self._final[reached], 0.0, self._phi.gather(1, reached))
        reward = reward + self.gamma * there - self._phi[:, begin]
        reward = reward + torch.where(reached == end, self.bonus, torch.where(done, self.malus, 0.0))
        lane, option = self._lane[:, None], self._all
        value = self.q[lane, option, next_cell[:, None]].amax(-1)
        target = reward + torch.where(done, 0.0, self.gamma * value)
        at = (lane, option, cell[:, None], cast(Tensor, x.action)[:, None])
        old = self.q[at]
        self.q[at] = old + self.rate[:, None] * (target - old)


def _per_lane(rate: float | Tensor, lanes: int, device: Any) -> Tensor:
    rates = torch.as_tensor(rate, dtype=torch.float64, device=device).expand(lanes)
    if bool(((rates <= 0) | (rates > 1)).any()):
        raise ValueError(f"learning_rate={rate}: it is above 0 and at most 1")
    return rates


def _potentials(shaping: MachinePotential | Tensor | None, machine: RewardMachine, gamma: float) -> Tensor:
    if shaping is None:
        return torch.zeros(len(machine), dtype=torch.float64)
    if isinstance(shaping, Tensor):
        return shaping.double()
    return shaping.sign * machine.values(gamma if shaping.planning is None else shaping.planning)
