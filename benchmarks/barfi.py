"""BARFI against the task alone, the plain sum and a potential, with a hint that helps and one that misleads.

A grid where the goal pays 1 and ends the episode. The good hint pays for steps towards the goal; the misleading one
pays for each step that ends in a corner near the start, where an agent that adds it up stays. Each method learns by
the same REINFORCE on tables, with the same steps and the same decay; the potential's phi is the hint's idea as a
function of the state (minus the distance; the corner's payment). Ten seeds learn side by side, on lanes of their own.

    cairn bench barfi            # or: python benchmarks/barfi.py; a few minutes; goes on where it was stopped
"""

import argparse
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

import cairn.benchmarks.tables as tables
from cairn.agents.barfi import BARFI
from cairn.envs.tabular import TabularBatch
from cairn.envs.tabular.scene import Scene
from cairn.envs.tabular.worlds import grid
from cairn.shaping import Potential, Stretch

ROWS = ("P......", ".......", ".......", "S.....G", ".......", ".......")
HINTS, METHODS = ("good", "misleading"), ("task", "sum", "potential", "barfi")
EPISODES, CURVE = 16, 25  # of each run in a step; points of the curve are means over so many steps
SETTINGS = {"rate": 0.02, "decay": 0.02, "warmup": 9, "inner": 3, "terms": 5, "neumann_rate": 0.5}


def world() -> Scene:
    """The grid."""
    return grid(ROWS, max_steps=40, discount=0.97)


def idea(scene: Scene, hint: str) -> Tensor:
    """What each hint says of a state, ``[S]``."""
    assert scene.place is not None
    letters = [ROWS[i][j] for i, j in scene.place.tolist()]
    if hint == "misleading":
        return torch.tensor([0.05 * (letter == "P") for letter in letters])
    goal = scene.place[letters.index("G")]
    return -0.05 * (scene.place - goal).abs().sum(-1).float()


def hint_term(scene: Scene, hint: str) -> Callable[[Stretch], Tensor]:
    """The hint as a reward: of progress, or of being there."""
    table = idea(scene, hint)

    def auxiliary(x: Stretch) -> Tensor:
        assert isinstance(x.obs, Tensor) and isinstance(x.next_obs, Tensor)
        return table[x.next_obs] - (table[x.obs] if hint == "good" else 0.0)

    return auxiliary


def learn(hint: str, method: str, seeds: int, steps: int, seed: int = 0) -> BARFI:
    """One method on one hint, all seeds at once."""
    scene = world()
    gamma = scene.mdp.discount

    def nothing(x: Stretch) -> Tensor:
        return torch.zeros_like(x.reward)

    auxiliary = {
        "task": nothing, "potential": Potential(idea(scene, hint).__getitem__, gamma=gamma),
    }.get(method, hint_term(scene, hint))  # fmt: skip
    rate = 0.02 if method == "barfi" else 0.0
    env = TabularBatch(scene, seeds * EPISODES)
    settings = {**SETTINGS, "gamma_rate": 0.005 if method == "barfi" else 0.0}
    return BARFI(env, auxiliary, runs=seeds, gamma=gamma, reward_rate=rate, seed=seed, **settings).learn(steps)  # type: ignore[arg-type]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure the cells that are missing, then print the table and draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=400, help="inner steps, of 16 episodes each")
    parser.add_argument("--out", default=str(tables.RESULTS / "barfi"))
    args = parser.parse_args(argv)
    for key, value in tables.machine().items():
        print(f"{key}: {value}")
    cells = tables.Cells(f"{args.out}/cells.csv", ("hint", "method", "seed", "seeds", "steps"))
    for hint in HINTS:
        for method in METHODS:
            mine = {"hint": hint, "method": method, "seeds": args.seeds, "steps": args.steps}
            if all(cells.done({**mine, "seed": s}) for s in range(args.seeds)):
                continue
            began = time.process_time()
            agent = learn(hint, method, args.seeds, args.steps)
            spent = time.process_time() - began
            curve = torch.stack(agent.returns).reshape(-1, CURVE, args.seeds).mean(1)  # [points, R]
            last = torch.stack(agent.returns)[-CURVE:].mean(0)
            print(f"{hint:10} {method:10} {tables.iqm(last.tolist()):.2f}  {spent:.0f} s of processor time", flush=True)
            for s in range(args.seeds):
                row = {"hint": hint, "method": method, "seed": s, "seeds": args.seeds, "steps": args.steps}
                row |= {"goals": f"{float(last[s]):.4f}", "cpu_s": f"{spent / args.seeds:.1f}"}
                row |= {"curve": " ".join(f"{v:.4f}" for v in curve[:, s].tolist())}
                if not cells.done(row):
                    cells.add(row)
    report(cells, args.out, args.seeds, args.steps)


def report(cells: tables.Cells, out: str, seeds: int, steps: int) -> None:
    """Print the table, and write the picture."""
    rows = [r for r in cells.rows() if r["seeds"] == str(seeds) and r["steps"] == str(steps)]
    print(f"\nshare of episodes that reach the goal over the last {CURVE} steps, IQM of {seeds} seeds, 95 % interval")
    print("| hint | " + " | ".join(METHODS) + " |\n|---|" + "---|" * len(METHODS))
    for hint in HINTS:
        texts = []
        for method in METHODS:
            found = [float(r["goals"]) for r in rows if r["hint"] == hint and r["method"] == method]
            low, high = tables.interval(found)
            texts.append(f"{tables.iqm(found):.2f} ({low:.2f} to {high:.2f})")
        print(f"| {hint} | " + " | ".join(texts) + " |")
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(HINTS), figsize=(10, 3.6), sharey=True)
    for axis, hint in zip(axes, HINTS):
        for method in METHODS:
            curves = [list(map(float, r["curve"].split())) for r in rows if (r["hint"], r["method"]) == (hint, method)]
            points = list(zip(*curves))
            at = [(i + 1) * CURVE * EPISODES for i in range(len(points))]
            line = axis.plot(at, [tables.iqm(p) for p in points], label=method)[0]
            bounds = [tables.interval(p, resamples=500) for p in points]
            axis.fill_between(at, [b[0] for b in bounds], [b[1] for b in bounds], alpha=0.2, color=line.get_color())
        axis.set(title=f"{hint} hint", xlabel="episodes")
    axes[0].set_ylabel("episodes that reach the goal")
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(f"{out}/barfi.png", dpi=110)
    print(f"curves: {out}/barfi.png")


if __name__ == "__main__":
    main()
