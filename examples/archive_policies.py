"""Search many policies, save them, and use each as a model: in SB3's evaluation, and near a place on a batch."""

import argparse
import tempfile
from pathlib import Path

import gymnasium as gym
import torch
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

import cairn  # noqa: F401  (registers the ids)
from cairn.qd import SearchConfig, load_grid, load_policies
from cairn.qd.running import search


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20_000, help="evaluations of the search, an episode each")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "arm"  # as `cairn qd cairn/RedundantArm-v0 --algorithm serene --run ...` leaves it
        search(
            SearchConfig(
                env="cairn/RedundantArm-v0", algorithm="serene", evaluations=args.steps, seed=args.seed, run=str(run)
            )
        )
        grid, policies = load_grid(run), load_policies(run)

    elites = grid.elites()
    print(f"{len(policies)} policies, which cover {grid.scores()['coverage']:.0%} of the cells")

    # Whatever takes a model of Stable-Baselines3's takes an elite: it has predict().
    env = Monitor(gym.make("cairn/RedundantArm-v0"))
    cells = list(policies)  # in the order of grid.elites()
    best = int(elites["objective"].argmax())
    mean, _ = evaluate_policy(policies[cells[best]], env, n_eval_episodes=1)
    print(f"the best one, in cell {cells[best]}: paid {elites['objective'][best]:.3f} then, and {mean:.3f} now")

    # The policy whose hand ends nearest to a place, on a batch of eight.
    place = torch.tensor([0.7, 0.6])
    near = int((elites["measures"] - place).norm(dim=-1).argmin())
    envs = gym.make_vec("cairn/RedundantArm-v0", num_envs=8)
    obs, info = envs.reset(seed=args.seed)
    ended = torch.zeros(8, dtype=torch.bool)
    while not ended.any():
        action, _ = policies[cells[near]].predict(obs)
        obs, _, _, _, info = envs.step(action)
        ended = info["_final_obs"]
    print(f"the one nearest to {place.tolist()} ends in {info['final_facts']['descriptor'][0].tolist()}")


if __name__ == "__main__":
    main()
