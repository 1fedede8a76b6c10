"""Search for a reward program: two candidates for DoorKey, one of which the rank gate stops before any training.

The designer here is a list, so that the example needs no server; a language model's is
``Asked(Client("http://127.0.0.1:8000/v1", "my-model"), "reward-design@1")``, or ``cairn design`` on the command line.
"""

import argparse
from functools import partial

import gymnasium as gym

import cairn  # noqa: F401  (registers the cairn/ ids)
from cairn.agents.design import SideBySide
from cairn.shaping.language.search import Workshop, eureka, record

HOLDS = """
def reward(next_carrying):  # pays as long as the key is held, so an agent holds it for ever
    key = where(next_carrying[:, 0] == 5, 0.1, 0.0)
    return key, {"key": key}
"""
STAGES = """
def reward(carrying, next_carrying, doors, next_doors):  # pays once for the key, once for the door
    key = where(next_carrying[:, 0] == 5, 1.0, 0.0) - where(carrying[:, 0] == 5, 1.0, 0.0)
    door = where(any(next_doors == 0, dim=-1), 1.0, 0.0) - where(any(doors == 0, dim=-1), 1.0, 0.0)
    return 0.1 * key + 0.3 * door, {"key": key, "door": door}
"""


class Listed:
    """Proposes what it was given, whatever the prompt says."""

    def propose(self, prompt: str, n: int) -> list[str]:
        """Give both programs."""
        return [f"```python\n{program}```" for program in (HOLDS, STAGES)][:n]


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=float, default=4e4, help="environment steps to train each agent for")
args = parser.parse_args()

make = partial(gym.make_vec, "cairn/MiniGrid-DoorKey-5x5-v0", device="cpu", facts=("doors",))
trials = SideBySide(
    partial(make, num_envs=32), int(args.steps), episodes=50,
    agent_args={"n_steps": 16, "batch_size": 256, "n_epochs": 4, "learning_rate": 1e-3},
)  # fmt: skip
episodes = record(make(num_envs=128))
print(f"{int(episodes.success.sum())} of {len(episodes)} episodes of random play succeed")
shop = Workshop("DoorKey", "fetch the key, open the door, go to the goal", episodes, trials, say=print)
found = eureka(shop, Listed(), samples=2, rounds=1)
for candidate in found.candidates:
    print(f"\n{candidate.name}: {candidate.outcome}\n{candidate.gate}")
    for finding in candidate.findings:
        print(finding)
if found.best is not None:
    print(f"\nbest: {found.best.name}, success {found.best.score:.0%}\n{found.best.program}")
