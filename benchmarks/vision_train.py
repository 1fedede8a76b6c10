"""VLM-RM in training: PPO on CartPole, paid by a sentence's score of its pictures alone, judged by the true angle.

    python benchmarks/vision_train.py                               # a small CLIP of CartPole's pictures, then PPO
    python benchmarks/vision_train.py --model /models/clip-vit-l    # any CLIP-class folder, by its own words

As in the paper, nothing but the picture tells that the pole has fallen: an episode goes on to its 200 steps, whatever
the pole does, unless the cart leaves the track. Upright is the share of those steps at which the pole is within 0.2
radians of upright (CartPole's own limit), over 100 fresh episodes of the frozen policy; steps after the end do not
count as upright. Beside the sentence, with a baseline prompt at each alpha and without one, stand the true reward (the
cosine of the angle), a constant one (the pole's fall costs nothing) and the policy before training, whose actions are
drawn.

The small model was trained on pictures of this very world: the pipeline and the mathematics are shown, and not what a
model of the open world sees zero-shot, which needs ``--model`` and is not run here. Resumable; 60,000 steps with
pictures take some five minutes of a core.
"""

import argparse
import functools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from torch import Tensor

from cairn.agents import PPO
from cairn.agents.training import acting
from cairn.benchmarks.tables import RESULTS, Cells, interval, iqm, machine
from cairn.envs import BatchEnv, from_gymnasium
from cairn.shaping import Stretch, VLMReward
from cairn.shaping.vision import ClipEmbedder, scenes, train_small_clip, view

LENGTH, UPRIGHT, EPISODES, LANES = 200, 0.2, 100, 16
SETTINGS: dict[str, Any] = {"n_steps": 64, "batch_size": 256, "n_epochs": 8, "learning_rate": 1e-3, "gamma": 0.98}
ALPHAS = (0.0, 0.5, 1.0)


class Pole(CartPoleEnv):
    """CartPole that goes on when the pole has fallen."""

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(render_mode=render_mode)
        self.theta_threshold_radians = float("inf")


def batch(lanes: int, pictures: bool) -> BatchEnv:
    """Poles in a batch, with the angle as a fact."""

    def make() -> gym.Env[Any, Any]:
        return gym.wrappers.TimeLimit(Pole("rgb_array" if pictures else None), LENGTH)

    return from_gymnasium(make, lanes, facts=lambda env: {"angle": float(env.state[2])})


def true(x: Stretch) -> Tensor:
    """The cosine of the angle that a step leads to."""
    return x.fact("angle", of_next=True).float().cos()


def constant(x: Stretch) -> Tensor:
    """One."""
    return torch.ones(x.shape)


def judged(model: PPO, seed: int, deterministic: bool = True) -> dict[str, float]:
    """How upright the frozen policy keeps the pole in fresh episodes, and the mean cosine while they last."""
    env = batch(EPISODES, pictures=False)
    obs, _ = env.reset(seed=10_000 + seed)
    act, alive = acting(model, deterministic), torch.ones(EPISODES, dtype=torch.bool)
    upright, cosine, steps = 0, 0.0, 0
    for _ in range(LENGTH):
        obs, _, terminated, truncated, info = env.step(act(obs))
        done = terminated | truncated
        angle = torch.where(done, info["final_facts"]["angle"], info["facts"]["angle"])
        upright += int((alive & (_apart(angle) < UPRIGHT)).sum())
        cosine, steps = cosine + float(angle.cos()[alive].sum()), steps + int(alive.sum())
        alive &= ~done
    env.close()
    return {"upright": upright / (EPISODES * LENGTH), "cosine": cosine / max(steps, 1), "length": steps / EPISODES}


def _apart(angle: Tensor) -> Tensor:
    """From upright, at any number of turns."""
    return torch.atan2(angle.sin(), angle.cos()).abs()


def rewards_of(embedder: ClipEmbedder, every: int) -> dict[str, Any]:
    """What is compared."""
    seen = functools.partial(VLMReward, scenes.UPRIGHT, model=embedder, every=every)
    found: dict[str, Any] = {"true": true, "constant": constant, "no baseline": seen().normalise()}
    return found | {f"alpha {alpha:g}": seen(scenes.CART, alpha=alpha).normalise() for alpha in ALPHAS}


def cell(name: str, reward: Any, seed: int, steps: int) -> dict[str, object]:
    """Train one seed with one reward, and judge it before and after."""
    cpu = time.process_time()
    env = batch(LANES, pictures=name not in ("true", "constant"))
    model = PPO("MlpPolicy", env, reward=reward, seed=seed, **SETTINGS)
    before = judged(model, seed, deterministic=False)["upright"]
    model.learn(steps)
    spent, after = time.process_time() - cpu, judged(model, seed)
    env.close()
    told = {name: round(value, 4) for name, value in after.items()}
    print(f"{name:12} seed {seed}: upright {before:.3f} -> {after['upright']:.3f}, {spent:.0f} CPU s", flush=True)
    return {
        "reward": name,
        "seed": seed,
        "steps": steps,
        "before": round(before, 4),
        **told,
        "cpu_seconds": round(spent),
    }


def tell(step: int, told: Mapping[str, float]) -> None:
    """The line of progress."""
    print(f"\rCLIP: step {step}, loss {told['loss']:.2f}, found {told['right']:.2f}", end="", flush=True)


def clip_of(args: argparse.Namespace) -> ClipEmbedder:
    """The model given, or the small one, trained where it is not there yet."""
    if args.model:
        return ClipEmbedder(args.model)
    folder = args.models / f"cartpole-{args.size}-{args.batches}"
    if not (folder / "config.json").exists():
        train_small_clip(folder, [scenes.cart_pole_pictures(2000)], args.size, args.batches, report=tell)
        print()
    return ClipEmbedder(folder)


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """Upright, IQM over seeds with its interval, in Markdown."""
    lines = ["| paid by | seeds | upright before | upright after | 95 % interval |", "|---|---:|---:|---:|---:|"]
    for name in dict.fromkeys(row["reward"] for row in rows):
        mine = [row for row in rows if row["reward"] == name]
        after = [float(row["upright"]) for row in mine]
        low, high = interval(after)
        before = iqm([float(row["before"]) for row in mine])
        lines.append(f"| {name} | {len(mine)} | {before:.3f} | {iqm(after):.3f} | {low:.3f} to {high:.3f} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Train what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="the folder of a CLIP-class model, instead of a small one made here")
    parser.add_argument("--size", default="small", help="of the small one")
    parser.add_argument("--batches", type=int, default=1000, help="that the small one learns from")
    parser.add_argument("--models", type=Path, default=Path("runs", "vision_train"), help="where the small one is kept")
    parser.add_argument("--steps", type=int, default=60_000, help="of PPO")
    parser.add_argument("--every", type=int, default=1, help="steps between two pictures")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="names of rewards")
    parser.add_argument("--out", type=Path, default=RESULTS / "vision_train")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    print(machine(), flush=True)
    embedder = clip_of(args)
    test = scenes.cart_pole_pictures(300, seed=1)
    truth, images = test.truth[scenes.UPRIGHT], embedder.images(test.frames)
    for alpha in ALPHAS:
        score = view(embedder, scenes.UPRIGHT, scenes.CART, alpha)(images)
        together = torch.corrcoef(torch.stack([score, truth]))[0, 1]
        print(f"alpha {alpha:g}: correlation of the score with the cosine on fresh pictures {together:.3f}", flush=True)
    name = args.model.name if args.model else f"{args.size}-{args.batches}"
    cells = Cells(args.out / f"{name}.csv", ("reward", "seed", "steps"))
    for seed in range(args.seeds):
        for who, reward in rewards_of(embedder, args.every).items():
            if args.only and who not in args.only or cells.done({"reward": who, "seed": seed, "steps": args.steps}):
                continue
            cells.add(cell(who, reward, seed, args.steps))
    print(table([row for row in cells.rows() if int(row["steps"]) == args.steps]))


if __name__ == "__main__":
    main()
