"""Finite Markov decision processes as tensors, one or a batch of them."""

from typing import Any

import torch
from torch import Tensor

ROW_TOLERANCE = 1e-9  # how far from 1 the probabilities of one state and action may sum


class MDP:
    """A finite MDP, or ``[*B]`` of them side by side: S states, A actions, float64 throughout.

    Transitions are held in one of two forms, and all solvers take both. Dense: ``prob[s, a, k]`` is the probability of
    state k, so K = S. Sparse: it is the probability of the state ``successors[s, a, k]``, which large worlds need (a
    deterministic one has K = 1). ``dense()`` and ``sparse()`` convert.

    An episode ends on entering a terminal state, whose value is 0: its row is replaced by a self-loop without reward.
    All arguments may have leading axes, which are broadcast: one transition tensor with 200 rewards is a batch of 200.
    ``reward`` may require a gradient; solvers that are differentiable carry it through.

    Args:
        prob: ``[*B, S, A, K]``; each row sums to 1.
        reward: ``[*B, S, A, K]``, paid on the transition, or ``[*B, S, A]``, whatever the next state.
        start: Distribution of the first state, ``[*B, S]``, or the index of one state.
        terminal: Bool ``[*B, S]``; none, by default.
        discount: In [0, 1].
        successors: Int64 ``[*B, S, A, K]`` for the sparse form, None for the dense one.

    Raises:
        ValueError: A shape does not fit, a number is not finite or a row is not a distribution; the message names
            the state and the action.
    """

    def __init__(
        self,
        prob: Any,
        reward: Any,
        *,
        start: Any = 0,
        terminal: Any = None,
        discount: float = 0.99,
        successors: Any = None,
    ) -> None:
        prob = _float(prob)
        if prob.ndim < 3:
            raise ValueError(f"prob has shape {tuple(prob.shape)}; it is [S, A, S], or [S, A, K] with successors")
        states, actions, width = prob.shape[-3:]
        if successors is None and width != states:
            raise ValueError(
                f"prob has shape {tuple(prob.shape)}: {states} states and rows of {width} next states. "
                "The order is [state, action, next state]; the sparse form needs successors="
            )
        reward = _float(reward, prob.device)
        if reward.shape[-3:] != prob.shape[-3:] and reward.shape[-2:] == (states, actions):
            reward = reward.unsqueeze(-1)
        start = _start(start, states, prob.device)
        terminal = torch.zeros(states, dtype=torch.bool) if terminal is None else torch.as_tensor(terminal)
        terminal = terminal.to(prob.device)
        if terminal.dtype != torch.bool:
            raise ValueError(f"terminal is a bool mask [S], and got {terminal.dtype}")
        parts = {"reward": reward.shape[-3:], "start": start.shape[-1:], "terminal": terminal.shape[-1:]}
        wants = {"reward": (states, actions, width), "start": (states,), "terminal": (states,)}
        for name, shape in parts.items():
            if tuple(shape) not in (wants[name], (states, actions, 1)):
                raise ValueError(f"{name} ends in {tuple(shape)}, and prob {tuple(prob.shape)} wants {wants[name]}")
        if successors is not None:
            successors = torch.as_tensor(successors, device=prob.device)
            if successors.shape[-3:] != prob.shape[-3:] or successors.dtype != torch.int64:
                raise ValueError(
                    f"successors is int64 {list(prob.shape)}, and got {successors.dtype} {list(successors.shape)}"
                )
            if bool(((successors < 0) | (successors >= states)).any()):
                span = f"{int(successors.min())} to {int(successors.max())}"
                raise ValueError(f"successors lie in [0, {states}), and go from {span}")
        if not 0.0 <= discount <= 1.0:
            raise ValueError(f"discount={discount}: it lies in [0, 1]")

        leads = [prob.shape[:-3], reward.shape[:-3], start.shape[:-1], terminal.shape[:-1]]
        leads += [] if successors is None else [successors.shape[:-3]]
        lead = _broadcast(*leads)
        self.batch, self.states, self.actions, self.discount = lead, states, actions, float(discount)
        self.start: Tensor = start.expand(*lead, states)
        self.terminal: Tensor = terminal.expand(*lead, states)
        _check_rows(prob, terminal)
        _check_start(start)
        if not bool(torch.isfinite(reward.detach()).all()):
            bad = ~torch.isfinite(reward.detach())
            raise ValueError(f"reward{_where(bad, 'state', 'action', 'next')} is not finite")

        ends = terminal[..., None, None]
        here = torch.arange(states, device=prob.device)[:, None, None]
        if successors is None:
            loop = (here == torch.arange(states, device=prob.device)).to(prob.dtype)
        else:
            loop = torch.zeros(1, 1, width, dtype=prob.dtype, device=prob.device)
            loop[..., 0] = 1.0
            successors = torch.where(ends, here, successors).expand(*lead, states, actions, width)
        self.successors: Tensor | None = successors
        """Int64 ``[*B, S, A, K]``, or None in the dense form."""
        self.prob = torch.where(ends, loop, prob).expand(*lead, states, actions, width)
        """``[*B, S, A, K]``."""
        self.reward = torch.where(ends, 0.0, reward).expand(*lead, states, actions, width)
        """``[*B, S, A, K]``."""

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.prob.device

    def expected_reward(self) -> Tensor:
        """r(s, a), the mean over next states, ``[*B, S, A]``."""
        return (self.prob * self.reward).sum(-1)

    def expect(self, values: Tensor) -> Tensor:
        """E[values(s') | s, a]: ``[*B, S]`` to ``[*B, S, A]``."""
        if self.successors is None:
            return (self.prob @ values[..., None, :, None]).squeeze(-1)
        values = values.expand(*self.batch, self.states)
        at = values.gather(-1, self.successors.flatten(-3)).reshape(self.successors.shape)
        return (self.prob * at).sum(-1)

    def push(self, mass: Tensor) -> Tensor:
        """Where the mass on states and actions flows in one step: ``[*B, S, A]`` to ``[*B, S]``."""
        flow = mass[..., None] * self.prob
        if self.successors is None:
            return flow.sum((-3, -2))
        out = torch.zeros(*flow.shape[:-3], self.states, dtype=flow.dtype, device=flow.device)
        index = self.successors.expand(flow.shape).flatten(-3)
        return out.scatter_add(-1, index, flow.flatten(-3))

    def under(self, policy: Tensor) -> tuple[Tensor, Tensor]:
        """The Markov chain of a policy ``[*B, S, A]``: its transitions ``[*B, S, S]`` and mean rewards ``[*B, S]``."""
        check_policy(policy, self)
        chain = (policy[..., None] * self.dense().prob).sum(-2)
        return chain, (policy * self.expected_reward()).sum(-1)

    def dense(self) -> "MDP":
        """The same MDP in dense form (S * A * S numbers; impossible transitions get reward 0)."""
        if self.successors is None:
            return self
        shape = (*self.batch, self.states, self.actions, self.states)
        prob = torch.zeros(shape, dtype=self.prob.dtype, device=self.device).scatter_add(-1, self.successors, self.prob)
        # Two entries of a row may name one state: its reward is their mean, weighted by probability.
        paid = torch.zeros_like(prob).scatter_add(-1, self.successors, self.prob * self.reward)
        return self._copy(prob, paid / torch.where(prob > 0, prob, 1.0), None)

    def sparse(self) -> "MDP":
        """The same MDP in sparse form, K being the most successors that any state and action has."""
        if self.successors is not None:
            return self
        width = max(1, int((self.prob > 0).sum(-1).max()))
        # A stable sort of "is it possible" keeps the successors in ascending order.
        order = (self.prob > 0).to(torch.uint8).argsort(dim=-1, descending=True, stable=True)[..., :width]
        return self._copy(self.prob.gather(-1, order), self.reward.gather(-1, order), order)

    def with_reward(self, reward: Any, discount: float | None = None) -> "MDP":
        """The same dynamics under another reward ``[*B, S, A]``, ``[*B, S, A, S]`` or, sparse, ``[*B, S, A, K]``."""
        reward = _float(reward, self.device)
        square = reward.ndim >= 3 and reward.shape[-3:] == (self.states, self.actions, self.states)
        if self.successors is not None and square and self.successors.shape[-1] != self.states:
            lead = _broadcast(reward.shape[:-3], self.batch)
            at = self.successors.expand(*lead, *self.successors.shape[-3:])
            reward = reward.expand(*lead, *reward.shape[-3:]).gather(-1, at)
        return MDP(
            self.prob, reward, start=self.start, terminal=self.terminal, successors=self.successors,
            discount=self.discount if discount is None else discount,
        )  # fmt: skip

    def with_discount(self, discount: float) -> "MDP":
        """The same MDP under another discount."""
        return self.with_reward(self.reward, discount)

    def continuing(self) -> "MDP":
        """The endless version, for averages over time: terminal states lead, without reward, to a start."""
        dense = self.dense()
        prob = torch.where(dense.terminal[..., None, None], dense.start[..., None, None, :], dense.prob)
        return MDP(prob, dense.reward, start=dense.start, discount=self.discount)

    def __getitem__(self, index: Any) -> "MDP":
        """One MDP of a batch, or a part of them."""
        if not self.batch:
            raise IndexError("this is one MDP, not a batch")
        successors = None if self.successors is None else self.successors[index]
        return MDP(
            self.prob[index], self.reward[index], start=self.start[index], terminal=self.terminal[index],
            discount=self.discount, successors=successors,
        )  # fmt: skip

    def to(self, device: torch.device | str) -> "MDP":
        """The same MDP on another device."""
        successors = None if self.successors is None else self.successors.to(device)
        return MDP(
            self.prob.to(device), self.reward.to(device), start=self.start.to(device),
            terminal=self.terminal.to(device), discount=self.discount, successors=successors,
        )  # fmt: skip

    def _copy(self, prob: Tensor, reward: Tensor, successors: Tensor | None) -> "MDP":
        return MDP(
            prob, reward, start=self.start, terminal=self.terminal, discount=self.discount, successors=successors
        )

    def __repr__(self) -> str:
        many = f"{list(self.batch)} x " if self.batch else ""
        form = "dense" if self.successors is None else f"{self.successors.shape[-1]} successors"
        return f"MDP({many}{self.states} states, {self.actions} actions, {form}, discount={self.discount})"


def check_policy(policy: Tensor, mdp: MDP) -> None:
    """Raise ValueError unless ``policy [*B, S, A]`` has a distribution over actions in every state."""
    if policy.shape[-2:] != (mdp.states, mdp.actions):
        raise ValueError(
            f"a policy of shape {tuple(policy.shape)} for {mdp.states} states and {mdp.actions} actions: it is [S, A], "
            "the probabilities of the actions in each state"
        )
    bad = ((policy.sum(-1) - 1).abs() > ROW_TOLERANCE) | (policy < 0).any(-1) | ~torch.isfinite(policy).all(-1)
    if bool(bad.any()):
        raise ValueError(f"policy{_where(bad, 'state')} is not a distribution over actions")


def _broadcast(*shapes: torch.Size) -> torch.Size:
    return torch.broadcast_shapes(*shapes)  # type: ignore[no-any-return, no-untyped-call]


def _float(value: Any, device: torch.device | None = None) -> Tensor:
    return torch.as_tensor(value, device=device).to(torch.float64)


def _start(start: Any, states: int, device: torch.device) -> Tensor:
    if not isinstance(start, int) or isinstance(start, bool):
        return _float(start, device)
    if not 0 <= start < states:
        raise ValueError(f"start={start}: the states are 0 to {states - 1}")
    out = torch.zeros(states, dtype=torch.float64, device=device)
    out[start] = 1.0
    return out


def _check_rows(prob: Tensor, terminal: Tensor) -> None:
    lead = _broadcast(prob.shape[:-3], terminal.shape[:-1])
    counts = ~terminal.expand(*lead, prob.shape[-3])[..., None]
    bad = ~(torch.isfinite(prob) & (prob >= 0))
    if bool(bad.any()):
        raise ValueError(f"prob{_where(bad, 'state', 'action', 'next')} = {prob[bad][0].item()} is not a probability")
    bad = ((prob.sum(-1) - 1).abs() > ROW_TOLERANCE) & counts
    if bool(bad.any()):
        total = prob.sum(-1).expand(bad.shape)[bad][0].item()
        raise ValueError(
            f"prob{_where(bad, 'state', 'action')} sums to {total:.6g}, not 1: each state and action needs a whole "
            "distribution over next states (terminal states may have any row)"
        )


def _check_start(start: Tensor) -> None:
    bad = ~torch.isfinite(start) | (start < 0)
    if bool(bad.any()) or bool(((start.sum(-1) - 1).abs() > ROW_TOLERANCE).any()):
        raise ValueError(f"start is not a distribution over states: it sums to {start.sum(-1).tolist()}")


def _where(bad: Tensor, *axes: str) -> str:
    """Name the first bad place, as in ``[batch 3, state 5, action 1]``; ``axes`` are the last axes' names."""
    place = bad.nonzero()[0].tolist()
    lead = len(place) - len(axes)
    names = [f"batch {i}" for i in place[:lead]] + [f"{name} {i}" for name, i in zip(axes, place[lead:])]
    return "[" + ", ".join(names) + "]"
