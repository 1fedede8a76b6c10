"""To the right end, then back to the left: DQN with and without a reward machine's counterfactual experience."""

import argparse
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from cairn.agents import DQN
from cairn.agents.evaluation import evaluate_batch
from cairn.envs import from_gymnasium
from cairn.shaping import CounterfactualMachine, MachineEnv, RewardMachine

LAST = 12


class Corridor(gym.Env[Any, Any]):
    """A row of cells, the agent begins in the middle; the task is the machine's."""

    observation_space = spaces.Box(0, 1, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Begin in the middle."""
        super().reset(seed=seed)
        self.cell = LAST // 2
        return np.array([self.cell / LAST], np.float32), {"facts": {"cell": self.cell}}

    def step(self, action: int) -> Any:
        """Move left (0) or right (1)."""
        self.cell = min(max(self.cell + 2 * int(action) - 1, 0), LAST)
        return np.array([self.cell / LAST], np.float32), 0.0, False, False, {"facts": {"cell": self.cell}}


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=1600, help="environment steps, for each of the two")
args = parser.parse_args()

labels: Any = {"right": lambda facts: facts["cell"] == LAST, "left": lambda facts: facts["cell"] == 0}
machine = RewardMachine([("out", "right", "back", 0.0), ("back", "left & !right", "home", 1.0)], labels, ["home"])
envs = from_gymnasium(lambda: gym.wrappers.TimeLimit(MachineEnv(Corridor(), machine), 4 * LAST), 4)
for crm in (None, CounterfactualMachine(machine)):
    solved = 0
    for seed in range(3):
        model = DQN("MlpPolicy", envs, experience=crm, learning_rate=5e-3, gamma=0.9, learning_starts=100, train_freq=1,
                    gradient_steps=1, buffer_size=5000, batch_size=32, target_update_interval=100, seed=seed,
                    exploration_fraction=0.5, exploration_final_eps=0.1, policy_kwargs={"net_arch": [32]})  # fmt: skip
        model.learn(args.steps)
        solved += evaluate_batch(model.policy.act, envs, 1, seed=0).return_mean > 0
    print(f"{'with' if crm else 'without'} counterfactuals: {solved} of 3 seeds solve it after {args.steps} steps")
