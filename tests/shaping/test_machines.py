"""Reward machines, their formulas, the environment that shows their state, and counterfactual experience."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from cairn.shaping import CounterfactualMachine, MachineEnv, MachineReward, RewardMachine, RolloutSeat, Stretch, World
from cairn.shaping.formulas import FormulaError, truth_table
from cairn.shaping.stretch import FactError


def there_and_back(on: str = "facts", last: int = 6) -> RewardMachine:
    """To the right end, then to the left end."""
    labels: dict[str, Any] = {"right": lambda facts: facts["cell"] == last, "left": lambda facts: facts["cell"] == 0}
    if on == "obs":
        labels = {"right": lambda obs: obs[..., 0] > 0.99, "left": lambda obs: obs[..., 0] < 0.01}
    edges = [("out", "right", "back", 0.0), ("back", "left & !right", "home", 1.0)]
    return RewardMachine(edges, labels, final=["home"], on=on)


class Line(gym.Env[Any, Any]):
    """A row of cells, the agent begins in the middle; the environment itself pays and ends nothing."""

    observation_space: spaces.Space[Any] = spaces.Box(0, 1, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, last: int = 6) -> None:
        self.last = last

    def _obs(self) -> Any:
        return np.array([self.cell / self.last], np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.cell = self.last // 2
        return self._obs(), {"facts": {"cell": self.cell}}

    def step(self, action: int) -> Any:
        self.cell = min(max(self.cell + 2 * int(action) - 1, 0), self.last)
        return self._obs(), 7.0, False, False, {"facts": {"cell": self.cell}}


def test_formulas() -> None:
    names = ["a", "b", "c"]
    for formula, python in (
        ("a", "a"), ("!a & b", "not a and b"), ("a & !b | c", "a and not b or c"), ("!(a | b) & true", "not (a or b)"),
        ("false | a&b&c", "a and b and c"), ("!!a", "a"),
    ):  # fmt: skip
        table = truth_table(formula, names)
        for letter in range(8):
            values = {n: bool(letter >> p & 1) for p, n in enumerate(names)}
            assert bool(table[letter]) == bool(eval(python, {}, values)), (formula, letter)


@pytest.mark.parametrize(
    ("formula", "message", "place"),
    [
        ("a & ", "should stand here", 5), ("a b", "go on with", 3), ("(a", "not closed", 3), ("a & z", "no label", 5),
        ("a ^ b", "no meaning", 3), ("!" * 30 + "a", "20 levels", 21), ("", "should stand here", 1),
    ],
)  # fmt: skip
def test_formulas_that_do_not_parse_are_marked(formula: str, message: str, place: int) -> None:
    with pytest.raises(FormulaError, match=message) as caught:
        truth_table(formula, ["a", "b"])
    assert f"at character {place} of" in str(caught.value)


def test_a_machine_steps_through_its_table() -> None:
    machine = there_and_back()
    assert machine.states == ["out", "back", "home"] and machine.final.tolist() == [False, False, True]
    letters = machine.letters({"cell": torch.tensor([3, 6, 0])})
    assert letters.tolist() == [0, 1, 2]
    state, reward = machine.step(torch.tensor([0, 0, 1]), letters)
    assert state.tolist() == [0, 1, 2] and reward.tolist() == [0, 0, 1]


def test_mistakes_in_machines() -> None:
    labels = {"a": "fact_a", "b": "fact_b"}
    with pytest.raises(ValueError, match=r"clashes at \{a, b\}: another edge"):
        RewardMachine([("u", "a", "v", 0), ("u", "b", "u", 1)], labels)
    with pytest.raises(ValueError, match="it is final"):
        RewardMachine([("u", "a", "v", 0), ("v", "a", "u", 0)], labels, final=["v"])
    with pytest.raises(ValueError, match=r"no transition from 'u' at \{!a, !b\}"):
        RewardMachine([("u", "a", "u", 0)], labels, otherwise="error")
    with pytest.raises(ValueError, match="at most 12"):
        RewardMachine([("u", "true", "u", 0)], {f"l{i}": "x" for i in range(13)})
    with pytest.raises(FactError, match="reads the fact 'fact_a'; there are cell"):
        RewardMachine([("u", "a", "v", 0)], labels, final=["v"]).letters({"cell": torch.zeros(2)})
    with pytest.raises(ValueError, match="one truth value for each row"):
        RewardMachine([("u", "a", "v", 0)], {"a": lambda f: f["cell"] > 0}, final=["v"]).letters(
            {"cell": torch.zeros(2, 3)}
        )
    with pytest.raises(TypeError, match="takes a RewardMachine"):
        MachineReward("task")  # type: ignore[arg-type]


@pytest.mark.parametrize("on", ["facts", "obs"])
def test_the_environment_follows_the_machine(on: str) -> None:
    env = MachineEnv(Line(), there_and_back(on))
    obs, info = env.reset(seed=0)
    assert np.allclose(obs, [0.5, 1, 0, 0]) and env.observation_space.contains(obs)
    total = 0.0
    for step, action in enumerate([0, 0, 0] + [1] * 6 + [0] * 6):
        obs, reward, terminated, truncated, info = env.step(action)
        assert info["env_reward"] == 7.0 and not truncated
        assert info["facts"]["machine"] == (0 if step < 8 else 1 if step < 14 else 2)
        assert terminated == (step == 14)
        total += reward
    assert total == 1.0 and np.allclose(obs, [0, 0, 0, 1])
    assert info["facts_before"]["machine"] == 1 and not info["facts"]["env_terminated"]
    again, _ = env.reset()
    assert np.allclose(again, [0.5, 1, 0, 0])


@pytest.mark.parametrize("space", [spaces.Discrete(7), spaces.Dict({"cell": spaces.Discrete(7)})])
def test_other_observation_spaces(space: spaces.Space[Any]) -> None:
    class Other(Line):
        observation_space = space

        def _obs(self) -> Any:
            cell = np.int64(self.cell)
            return cell if isinstance(space, spaces.Discrete) else {"cell": cell}

    machine = there_and_back()
    env = MachineEnv(Other(), machine)
    obs, _ = env.reset(seed=0)
    assert env.observation_space.contains(obs)
    for action in (1, 1, 1):
        obs = env.step(action)[0]
        assert env.observation_space.contains(obs)
    crm = CounterfactualMachine(machine)
    crm.bind(World(env.observation_space, env.action_space))
    tree = (
        {"cell": torch.tensor([6]), "machine": torch.tensor([[0.0, 1, 0]])}
        if isinstance(obs, dict)
        else torch.tensor([obs])
    )
    assert crm.read(tree).tolist() == [1]
    assert crm.read(crm.write(tree, torch.tensor([2]))).tolist() == [2]


def test_a_space_without_room_is_refused() -> None:
    class Picture(Line):
        observation_space = spaces.Box(0, 255, (3, 3, 3), np.uint8)

    with pytest.raises(TypeError, match="observes a Dict"):
        MachineEnv(Picture(), there_and_back())
    with pytest.raises(ValueError, match="MachineEnv"):
        CounterfactualMachine(there_and_back()).bind(World(spaces.Dict({"x": spaces.Discrete(2)}), spaces.Discrete(2)))


def walked(actions: list[int]) -> tuple[list[Any], Stretch]:
    """Steps of the environment, as gymnasium gives them and as a stretch ``[B]``."""
    env = MachineEnv(Line(), there_and_back())
    obs, _ = env.reset(seed=0)
    steps, rows = [], []
    for action in actions:
        new, reward, terminated, truncated, info = env.step(action)
        steps.append((obs, action, reward, new, terminated))

        def facts(values: dict[str, Any]) -> dict[str, Tensor]:
            return {n: torch.as_tensor(v)[None] for n, v in values.items()}

        rows.append(
            Stretch.make(
                obs=torch.tensor(obs)[None], next_obs=torch.tensor(new)[None], action=torch.tensor([action]),
                reward=torch.tensor([reward]), terminated=torch.tensor([terminated]),
                truncated=torch.tensor([truncated]), facts=facts(info["facts_before"]), next_facts=facts(info["facts"]),
            )
        )  # fmt: skip
        obs = new
    return steps, Stretch.cat(rows)


@pytest.mark.parametrize("with_facts", [True, False])
def test_counterfactuals_are_what_the_environment_would_have_done(with_facts: bool) -> None:
    actions = [0, 0, 0, 1, 1, 1, 1, 1, 1] + [0] * 6
    _, x = walked(actions)
    if not with_facts:  # the letter is read anew, and ends are explained by the machine
        x.next_facts = {"cell": x.next_facts["cell"]}
    machine = there_and_back()
    crm = CounterfactualMachine(machine)
    crm.bind(World(spaces.Box(0, 1, (4,)), spaces.Discrete(2)))
    y, origin = crm(x)
    assert len(y.reward) == 2 * len(actions) and torch.equal(origin, torch.arange(15).repeat(2))
    # By hand: from each state, at each step.
    for row in range(30):
        before, step = row // 15, row % 15
        cell, new = float(x.obs[step, 0]), float(x.next_obs[step, 0])
        after = {0: 1 if new == 1 else 0, 1: 2 if new == 0 else 1}[before]
        assert y.obs[row].tolist() == pytest.approx([cell, float(before == 0), float(before == 1), 0])
        assert y.next_obs[row].tolist() == pytest.approx([new, float(after == 0), float(after == 1), float(after == 2)])
        assert y.reward[row] == float(after == 2) and y.terminated[row] == (after == 2)
        assert int(y.action[row]) == actions[step] and int(y.facts["machine"][row]) == before
    # The lived rows are among them.
    lived = crm.read(x.obs) * 15 + torch.arange(15)
    assert torch.equal(y.reward[lived], x.reward) and torch.equal(y.terminated[lived], x.terminated)


def test_an_end_of_the_environment_stays_an_end() -> None:
    _, x = walked([1, 1])
    x.next_facts["env_terminated"] = torch.tensor([False, True])
    crm = CounterfactualMachine(there_and_back())
    crm.bind(World(spaces.Box(0, 1, (4,)), spaces.Discrete(2)))
    assert crm(x)[0].terminated.tolist() == [False, True, False, True]


def test_the_term_pays_as_the_environment_does() -> None:
    """A machine as a term, over an environment that does not show its state."""
    actions = [1] * 3 + [0] * 6
    steps, x = walked(actions)
    flat = x.map(lambda v: v[:, None])
    flat.start[0] = True
    world = World(spaces.Box(0, 1, (4,)), spaces.Discrete(2))
    paid = RolloutSeat(MachineReward(there_and_back()), world)(flat, 0)[0].flatten()
    assert paid.tolist() == [reward for _, _, reward, _, _ in steps] and paid.sum() == 1
    # Two episodes one after the other, the first cut half way: the second begins in the initial state.
    twice = Stretch.cat([flat[:5], flat])
    again = RolloutSeat(MachineReward(there_and_back()), world)(twice, 0)[0].flatten()
    assert again.tolist() == [0.0] * 5 + paid.tolist()
    back = Stretch.cat([flat[:5], flat[:1], flat[6:]])  # straight home after the cut, without having been out
    assert not RolloutSeat(MachineReward(there_and_back()), world)(back, 0)[0].any()
