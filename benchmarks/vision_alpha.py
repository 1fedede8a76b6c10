"""VLM-RM's alpha: how far the score of a sentence is from the true score, over alpha and three sizes of model.

    python benchmarks/vision_alpha.py                              # trains three sizes of CLIP, then sweeps; resumable
    python benchmarks/vision_alpha.py --model /models/clip-vit-l   # any CLIP-class folder, by its own words

Distance is STARC's, exact, on finite worlds whose states are pictures of real environments that no model was trained
on: a Humanoid on its way from standing to each of five poses (actions go on, or back), and a pole at all places and
angles of a cart (actions push it, and it goes on falling). The reward of a step is the score of where it leads. True
scores are the poses' own (``facts["score"]``) and the cosine of the pole's angle. 0 is the same order of all policies,
0.71 no relation, 1 the opposite order.

In the same worlds "in lights" the agent can also change what no goal speaks of: one more action turns to the Humanoid's
next lamp, and along the cart's track the lamps change with the place. That is what the baseline prompt is for: what
tells it not apart from the goal is to be left out. Models have not seen such lights, but those of ``--lit``, whose
captions name the light in about half of the cases.

The same rule trains every size, and none of it looks at the distance: the learning rate is the one of ``RATES`` with
the lowest loss on held-out pictures after 200 batches, and training ends when that loss has not fallen by 1 % in 400
batches, after 4,000 at the latest. Pictures and captions are the same for all.

The small models know these worlds and these captions alone: they show the pipeline and the mathematics. What a model
of the open world sees zero-shot needs ``--model``, and is not run here.
"""

import argparse
import functools
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cairn.benchmarks.tables import RESULTS, Cells, interval, iqm, machine
from cairn.envs.tabular import MDP
from cairn.shaping.compare import starc
from cairn.shaping.vision import ClipEmbedder, Embedder, scenes
from cairn.shaping.vision.sight import view
from cairn.shaping.vision.small import SIZES, WORLDS, train_small_clip

ALPHAS = tuple(round(0.1 * k, 1) for k in range(11))
GAMMA = 0.95
LEVELS, VARIANTS = 6, 4
RATES, BATCH = (3e-4, 1e-3, 3e-3), 64
TRIAL, MOST, PATIENCE = 200, 4000, 4  # batches to choose a rate by; at most to learn from; checks without a lower loss


class World(NamedTuple):
    """Pictures of states, and how actions lead from one to another."""

    pictures: scenes.Pictures
    prob: Tensor
    """``[S, A, S]``."""


def humanoid(seed: int = 1000) -> World:
    """Standing, and five ways from there; each state has some variants, between which chance decides."""
    rng, model = np.random.default_rng(seed), scenes.humanoid_model()
    names = [name for name in scenes.POSES if name != "standing"]
    at = [(0, 0), *((b, level) for b in range(len(names)) for level in range(1, LEVELS + 1))]
    states = [
        scenes.pose(model, names[b] if level else "standing", level / LEVELS, rng)
        for b, level in at
        for _ in range(VARIANTS)
    ]
    prob = np.zeros((len(at), len(names), len(at)))
    for here, (b, level) in enumerate(at):
        for action in range(len(names)):
            if level == 0 or action == b:
                there = (action, min(level + 1, LEVELS))
            else:
                there = (b, level - 1) if level > 1 else (0, 0)
            prob[here, action, at.index(there)] = 1.0
    spread = np.kron(prob, np.full((VARIANTS, 1, VARIANTS), 1 / VARIANTS))
    return World(scenes.humanoid_at(np.stack(states)), torch.from_numpy(spread))


def cart_pole(places: int = 7, angles: int = 25) -> World:
    """A push moves the cart to its side and the pole to the other; a pole that leans goes on falling."""
    x, angle = np.linspace(-1.2, 1.2, places), np.linspace(-1.4, 1.4, angles)
    states = np.array([(a, b) for a in x for b in angle])
    prob, middle = np.zeros((len(states), 2, len(states))), angles // 2
    for i in range(places):
        for j in range(angles):
            fall = 0 if j == middle else 1 if j > middle else -1
            for action, side in enumerate((-1, 1)):
                for moved, p in ((side, 0.5), (0, 0.5)):
                    to = min(max(i + moved, 0), places - 1)
                    for lean, q in ((fall - 2 * side, 0.6), (fall, 0.4)):
                        prob[i * angles + j, action, to * angles + min(max(j + lean, 0), angles - 1)] += p * q
    return World(scenes.cart_pole_at(states), torch.from_numpy(prob))


def humanoid_lit(seed: int = 2000, variants: int = 2) -> World:
    """The Humanoid's world in each of the lights; one more action turns to the next lamp, and leaves the pose."""
    plain, lamps = humanoid(seed), len(scenes.LIGHTS)
    chosen = [i for i in range(len(plain.prob)) if i % VARIANTS < variants]
    poses = plain.prob[:, :, chosen][chosen]
    poses = poses / poses.sum(-1, keepdim=True)
    count, actions = poses.shape[:2]
    turn = torch.roll(torch.eye(lamps, dtype=torch.float64), 1, 1)
    stay = torch.kron(
        torch.eye(count // variants, dtype=torch.float64),
        torch.full((variants, variants), 1 / variants, dtype=torch.float64),
    )
    prob = torch.zeros(lamps * count, actions + 1, lamps * count, dtype=torch.float64)
    for action in range(actions):
        prob[:, action] = torch.kron(torch.eye(lamps, dtype=torch.float64), poses[:, action].contiguous())
    prob[:, actions] = torch.kron(turn, stay)
    every = scenes.lit(plain.pictures[chosen * lamps], [k for k in range(lamps) for _ in range(count)])
    return World(every, prob)


def cart_pole_lit(places: int = 7, angles: int = 25) -> World:
    """The pole's world with a lamp above each place, by turns."""
    plain, lamps = cart_pole(places, angles), len(scenes.LIGHTS)
    return World(scenes.lit(plain.pictures, [i // angles % lamps for i in range(places * angles)]), plain.prob)


def distance(world: World, score: Tensor, true: Tensor) -> float:
    """STARC's, of rewards that are scores of the next state."""
    states = len(world.prob)
    mdp = MDP(
        world.prob,
        torch.zeros(world.prob.shape[:2]),
        start=torch.full((states,), 1 / states, dtype=torch.float64),
        discount=GAMMA,
    )
    first, second = (v.double().expand(world.prob.shape) for v in (score, true))
    return float(starc(mdp, first, second))


def sweep(table: Cells, name: str, seed: int, embedder: Embedder, worlds: dict[str, World]) -> None:
    """Add a row for each world, goal and alpha."""
    for world_name, world in worlds.items():
        images = embedder.images(world.pictures.frames)
        for goal, true in world.pictures.truth.items():
            for alpha in ALPHAS:
                key = {"model": name, "seed": seed, "world": world_name, "goal": goal, "alpha": alpha}
                if table.done(key):
                    continue
                score = view(embedder, goal, world.pictures.general, alpha)(images)
                pearson = float(torch.corrcoef(torch.stack([score, true]))[0, 1])
                found = {"starc": f"{distance(world, score, true):.4f}", "pearson": f"{pearson:.4f}"}
                table.add({**key, **found, "digest": embedder.digest})


@functools.cache
def learned_from(count: int) -> list[scenes.Pictures]:
    """Pictures of all worlds."""
    return [make(max(int(share * count), 20), 0) for make, share in zip(WORLDS.values(), (1.0, 0.5, 0.25))]


def in_lights(worlds: Sequence[scenes.Pictures]) -> list[scenes.Pictures]:
    """The same, each picture in a light that chance draws."""
    rng = np.random.default_rng(0)
    return [scenes.lit(world, rng.integers(0, len(scenes.LIGHTS), len(world)).tolist()) for world in worlds]


def learn(
    folder: Path, pictures: int, size: str, rate: float, seed: int, steps: int, lights: bool = False
) -> dict[str, object]:
    """Train one model, unless it is there; returns what came of it."""
    known = folder.parent / f"{folder.name}.json"
    if known.exists():
        told: dict[str, object] = json.loads(known.read_text())
        return told
    shutil.rmtree(folder, ignore_errors=True)  # what a kill left
    curve: list[tuple[int, float]] = []

    def tell(step: int, now: Mapping[str, float]) -> None:
        if "held_out" in now:
            curve.append((step + 1, round(now["held_out"], 4)))
        low = min((loss for _, loss in curve), default=float("nan"))
        said = f"loss {now['loss']:.2f}, found {now['right']:.2f}, held out {low:.3f}"
        print(f"\r{size} {seed}, rate {rate:g}: step {step}, {said}", end="", flush=True)

    shown = in_lights(learned_from(pictures)) if lights else learned_from(pictures)
    began = time.process_time()
    train_small_clip(folder, shown, size, steps, BATCH, rate, patience=PATIENCE, seed=seed, report=tell)
    print()
    spent = round(time.process_time() - began)
    at, low = min(curve, key=lambda point: point[1])
    told = {
        "model": size, "lights": lights, "seed": seed, "rate": rate, "batches": curve[-1][0], "best at": at,
        "held out": low, "cpu_seconds": spent, "curve": curve,
    }  # fmt: skip
    known.write_text(json.dumps(told))
    return told


def train(args: argparse.Namespace, size: str, seed: int, lights: bool = False) -> tuple[Path, list[dict[str, object]]]:
    """A model by the rule; returns its folder and the record of its trainings."""
    name = f"{size}-lights" if lights else size
    trials = [
        learn(args.models / f"{name}-trial-{rate:g}", args.pictures, size, rate, 0, min(TRIAL, args.batches), lights)
        for rate in RATES
    ]
    rate = float(str(min(trials, key=lambda told: float(str(told["held out"])))["rate"]))
    folder = args.models / f"{name}-{seed}"
    return folder, [*trials, learn(folder, args.pictures, size, rate, seed, args.batches, lights)]


def over_seeds(rows: Sequence[Mapping[str, str]], model: str, lights: bool, alpha: float) -> list[float]:
    """The mean distance over the goals of all worlds, a number for each seed."""
    mine = [
        r for r in rows
        if (r["model"], float(r["alpha"])) == (model, alpha) and r["world"].endswith(" in lights") == lights
    ]  # fmt: skip
    seeds = dict.fromkeys(row["seed"] for row in mine)
    return [float(np.mean([float(r["starc"]) for r in mine if r["seed"] == seed])) for seed in seeds]


def picture(rows: Sequence[Mapping[str, str]], path: Path) -> None:
    """The distance over alpha, a panel for each goal, a line for each model: the mean over seeds, and their range."""
    import matplotlib.pyplot as plt

    goals = list(dict.fromkeys(row["goal"] for row in rows))
    kinds = sorted({row["world"].endswith(" in lights") for row in rows})
    figure, axes = plt.subplots(len(kinds), len(goals), figsize=(3.1 * len(goals), 3.2 * len(kinds)), squeeze=False,
                                sharey=True)  # fmt: skip
    for line, lights in zip(axes, kinds):
        for axis, goal in zip(line, goals):
            for model in dict.fromkeys(row["model"] for row in rows):
                found: dict[float, list[float]] = {}
                for r in rows:
                    if (r["goal"], r["model"], r["world"].endswith(" in lights")) == (goal, model, lights):
                        found.setdefault(float(r["alpha"]), []).append(float(r["starc"]))
                alphas = sorted(found)
                (drawn,) = axis.plot(alphas, [np.mean(found[a]) for a in alphas], marker="o", markersize=3, label=model)
                ends = [[end(found[a]) for a in alphas] for end in (min, max)]
                axis.fill_between(alphas, *ends, color=drawn.get_color(), alpha=0.15, linewidth=0)
            axis.axhline(0.5**0.5, color="grey", linewidth=0.8, linestyle=":")
            title = goal.removeprefix("a ").replace("humanoid robot ", "") + (", in lights" if lights else "")
            axis.set(title=title, xlabel="alpha", ylim=(0, 1))
            axis.title.set_fontsize(9)
        line[0].set_ylabel("STARC distance to the true score")
    axes[0, 0].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def table_of(rows: Sequence[Mapping[str, str]]) -> str:
    """The mean distance over goals by model and alpha, IQM over seeds with its interval, in Markdown."""
    lines = ["| model | worlds | seeds | alpha 0 | alpha 0.5 | alpha 1 |", "|---|---|---:|---:|---:|---:|"]
    for lights in (False, True):
        for model in dict.fromkeys(row["model"] for row in rows):
            cells, count = [], 0
            for alpha in (0.0, 0.5, 1.0):
                values = over_seeds(rows, model, lights, alpha)
                if not values:
                    break
                low, high = interval(values)
                cells.append(f"{iqm(values):.3f} ({low:.3f} to {high:.3f})")
                count = max(count, len(values))
            if cells:
                lines.append(f"| {model} | {'in lights' if lights else 'plain'} | {count} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Train what is not there yet, and sweep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="the folder of a CLIP-class model, instead of small ones made here")
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--lit", nargs="*", choices=list(SIZES), default=[], help="sizes to train in lights too")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--batches", type=int, default=MOST, help="that a small model learns from, at most")
    parser.add_argument(
        "--pictures", type=int, default=4000, help="of the Humanoid; half of CartPole, a quarter of DoorKey"
    )
    parser.add_argument("--models", type=Path, default=Path("runs", "vision_alpha"), help="where small ones are kept")
    parser.add_argument("--out", type=Path, default=RESULTS / "vision_alpha")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    print({**machine(), "transformers": version("transformers")}, flush=True)
    table = Cells(args.out / "alpha.csv", ("model", "seed", "world", "goal", "alpha"))
    worlds = {"humanoid": humanoid(), "cartpole": cart_pole()}
    worlds |= {"humanoid in lights": humanoid_lit(), "cartpole in lights": cart_pole_lit()}
    if args.model:
        sweep(table, args.model.name, 0, ClipEmbedder(args.model), worlds)
    args.models.mkdir(parents=True, exist_ok=True)
    told: dict[str, object] = {}
    for seed in [] if args.model else range(args.seeds):
        for size, lights in [*((size, False) for size in args.sizes), *((size, True) for size in args.lit)]:
            folder, records = train(args, size, seed, lights)
            told |= {json.dumps(record): record for record in records}
            sweep(table, f"{size}, lights" if lights else size, seed, ClipEmbedder(folder), worlds)
            (args.out / "training.json").write_text(json.dumps(list(told.values())))
    picture(table.rows(), args.out / "alpha.png")
    print(table_of(table.rows()))


if __name__ == "__main__":
    main()
