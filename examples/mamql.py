"""Two agents learn from what two others did on the board of Gems, and say what these seem to have been paid for."""

import argparse

import gymnasium as gym
import torch

from cairn.agents import MAMQL
from cairn.agents.data import collect
from cairn.agents.evaluation import evaluate_batch
from cairn.agents.training import acting
from cairn.envs.multi import Joint

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=float, default=4000, help="eight for an update of every learner")
args = parser.parse_args()


def board(lanes: int) -> gym.vector.VectorEnv:
    return gym.make_vec("cairn/Gems-v0", num_envs=lanes, device="cpu")


def collector(obs: torch.Tensor, info: object = None) -> torch.Tensor:
    """Each goes for the nearest gem of its own colour, across first."""
    dx, dy = (obs[..., 4] * 14).round(), (obs[..., 5] * 14).round()
    down = torch.where(dy > 0, 0, torch.where(dy < 0, 2, 4))
    return torch.where(dx > 0, 1, torch.where(dx < 0, 3, down))


demos = collect(collector, Joint(board(50)), 200, seed=0)
print(f"the demonstrators: {demos}")

settings = {
    "MAMQL, with the world": {},
    "MAMQL, demonstrations alone": {"online": False, "values": "expert", "alpha": 10.0},
    "behaviour cloning": {"method": "clone"},
}
x = demos.stretch()
for name, own in settings.items():
    model = MAMQL("MlpPolicy", board(8), demos, seed=0, **own).learn(int(args.steps))
    trial = evaluate_batch(acting(model, False), board(100), 100, seed=1)
    print(f"{name}: {trial}")
    if model.method != "clone":
        shown = model.recovered(x.obs, x.action, x.next_obs, x.terminated).mean().item()
        other = model.recovered(x.obs, (x.action + 1) % 5, x.next_obs, x.terminated).mean().item()
        print(f"  its reward of what was done: {shown:.2f}, of another choice in the same place: {other:.2f}")
