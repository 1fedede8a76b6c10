"""SERENE against plain novelty search on the redundant arm: how much is reached, and the best reward in each area."""

import argparse

import gymnasium as gym

import cairn  # noqa: F401  (registers the ids)
from cairn.qd import MLP, Evaluator, Problem, Search, run_together


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10_000, help="evaluations of each search, an episode each")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    def make(lanes: int) -> gym.vector.VectorEnv:
        return gym.make_vec("cairn/RedundantArm-v0", num_envs=lanes)

    arms = make(1)
    policy = MLP(arms.single_observation_space, arms.single_action_space, hidden=(5, 5))
    evaluator = Evaluator(make, policy)  # as many networks at once as are asked for, each with its own weights
    low, high = arms.descriptor_bounds  # of the hand's place

    searches = {
        name: Search(name, Problem(policy.size, low, high, seed=args.seed), areas=len(arms.areas))
        for name in ("ns", "serene")
    }
    while any(search.evaluations < args.steps for search in searches.values()):
        run_together(list(searches.values()), evaluator, args.steps)

    for name, search in searches.items():
        scores = search.grid.scores()
        areas = ", ".join(f"{scores[f'area_{i}']:.2f}" for i in range(len(arms.areas)))
        print(f"{name}: {search.evaluations:,} evaluations reach {scores['coverage']:.0%} of the cells; best: {areas}")
    best = searches["serene"].grid
    print(f"the best policy of all has {policy.size} numbers and pays {float(best.objective.max()):.2f}")


if __name__ == "__main__":
    main()
