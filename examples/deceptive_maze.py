"""GA-NS in the deceptive maze: selecting by novelty finds the goal, selecting by progress towards it gets stuck."""

import argparse
import math

import gymnasium as gym

import cairn  # noqa: F401  (registers the ids)
from cairn.qd import MLP, Evaluator, Problem, Search

GOAL, SIDE = (60 / 600, 60 / 600), 600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=25_000, help="evaluations of each search, an episode each")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    def make(lanes: int) -> gym.vector.VectorEnv:
        return gym.make_vec("cairn/DeceptiveMaze-v0", num_envs=lanes)  # pays progress, as the crow flies

    maze = make(1)
    policy = MLP(maze.single_observation_space, maze.single_action_space, hidden=(5, 5), bias="unit")
    low, high = maze.descriptor_bounds  # of the robot's last place
    genetic = {"population": 250, "parents": 50, "sigma": 0.3}
    for name, options in (("ga", genetic), ("ga-ns", {**genetic, "neighbours": 15, "archived": 0.02})):
        evaluator = Evaluator(make, policy)  # runs whole episodes in compiled code
        search = Search(name, Problem(policy.size, low, high, seed=args.seed), options)
        nearest, solved, generations = math.inf, False, 0
        while search.evaluations < args.steps and not solved:
            found = evaluator(search.ask())
            nearest = min(nearest, SIDE * float((found.measures - found.measures.new_tensor(GOAL)).norm(dim=-1).min()))
            solved = bool((found.area == 0).any())  # the last place lies within 50 units of the goal
            search.tell(found)
            generations += 1
        how = "solved" if solved else "not solved"
        print(f"{name}: {how} in {search.evaluations:,} episodes; the nearest end lies {nearest:.0f} from the goal")
        # A genome is a list of seeds: one for the first weights, and one for each mutation since.
        print(f"  genomes of at most {4 * generations} bytes, for weights of any number: here {4 * policy.size} bytes")


if __name__ == "__main__":
    main()
