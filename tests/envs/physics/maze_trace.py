"""Write ``maze_trace.json``: what gymnasium-robotics gives for a few seeds and actions.

``test_maze.py`` holds the mazes to it where gymnasium-robotics is not installed. ``python
tests/envs/physics/maze_trace.py`` makes it anew (extra ``bench``).
"""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np

TRACE = Path(__file__).with_suffix(".json")
# Id, arguments, steps. The point is pulled to its goal, so that goals are reached and move.
CASES = (
    ("PointMaze_Open-v3", {"reset_target": True, "max_episode_steps": 70}, 90),
    ("PointMaze_Medium_Diverse_GRDense-v3", {}, 12),
    ("AntMaze_UMazeDense-v5", {"max_episode_steps": 4}, 6),
)


def pull(obs, rng, width):
    """Towards the goal where there are two actuators, else anywhere; rounded, so that the file stays small."""
    towards = np.clip(4 * (np.asarray(obs["desired_goal"]) - np.asarray(obs["achieved_goal"])), -1, 1)
    action = towards if width == 2 else rng.uniform(-1, 1, width)
    return np.round(action, 3).astype(np.float32)


def main() -> None:
    """Run upstream's environments and write the file."""
    import gymnasium as gym
    import gymnasium_robotics

    from cairn.envs.batch import lane_seed

    gym.register_envs(gymnasium_robotics)
    names = ("gymnasium-robotics", "gymnasium", "mujoco", "numpy")
    out = {"versions": {name: version(name) for name in names}, "cases": []}
    for case, (task, kwargs, steps) in enumerate(CASES):
        env, rng = gym.make(task, **kwargs), np.random.default_rng(0)
        obs, info = env.reset(seed=lane_seed(case, 0))
        rows = [{"obs": {k: v.tolist() for k, v in obs.items()}, "success": bool(info["success"])}]
        for _ in range(steps):
            action = pull(obs, rng, env.action_space.shape[0])
            obs, reward, terminated, truncated, info = env.step(action)
            row = {"action": [float(x) for x in action], "reward": float(reward), "success": bool(info["success"])}
            row |= {"terminated": bool(terminated), "truncated": bool(truncated)}
            row["obs"] = {name: array.tolist() for name, array in obs.items()}
            if terminated or truncated:
                obs, _ = env.reset()
            rows.append(row)
        out["cases"].append({"task": task, "kwargs": kwargs, "seed": case, "rows": rows})
    TRACE.write_text(json.dumps(out, separators=(",", ":")) + "\n")
    print(f"{TRACE}: {TRACE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
