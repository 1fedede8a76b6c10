"""A task as a temporal formula: the key, then the door, then the goal, in that order; PPO sees how far it is."""

import argparse

import gymnasium as gym

import cairn  # noqa: F401  (registers the cairn/ ids)
from cairn.agents import PPO
from cairn.shaping import MachineEnv, MachinePotential, Task, ltl_machine
from cairn.shaping.labels import at, carrying, door


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300_000)
    parser.add_argument("--picture", default=None, help="draw the machine into this file")
    args = parser.parse_args()

    labels = {"key": carrying("key"), "open": door("open"), "goal": at("goal")}
    machine = ltl_machine("F (key & F (open & F goal))", labels)
    for source, formula, target, reward in machine.edges:
        print(f"{source} -> {target} when {formula}, paying {reward:g}")
    if args.picture:
        machine.save_picture(args.picture)

    envs = gym.make_vec("cairn/MiniGrid-DoorKey-5x5-v0", num_envs=64, facts=["objects", "doors"])
    envs = MachineEnv(envs, machine)  # the formula is the task, and its state is in the observation
    model = PPO("MlpPolicy", envs, reward=Task() + MachinePotential(machine), seed=0)
    model.learn(args.steps)

    obs, _ = envs.reset(seed=1)
    met = ended = 0
    for _ in range(300):
        obs, reward, terminated, truncated, _ = envs.step(model.predict(obs, deterministic=False)[0])
        met, ended = met + int((reward > 0).sum()), ended + int((terminated | truncated).sum())
    print(f"after {args.steps} steps the formula was met in {met} of {ended} episodes that ended")


if __name__ == "__main__":
    main()
