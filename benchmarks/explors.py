"""EXPLORS against its ablations and its rivals on Chain, Room and LineK.

Settings are the paper's (REINFORCE, rates 0.1 and 0.01), on tables; for LineK, where the paper has networks, the tables
are over its cells (a tenth of the line, and whether the key is held), the policy's rate is 0.2, and the made reward is
held within 0.1, as the paper's is there. All methods and seeds of a world learn side by side, one lane each, every one
by itself. LIRPG needs the world's MDP, and LineK has none.

    cairn bench explors                       # or: python benchmarks/explors.py; goes on where it was stopped
    cairn bench explors --worlds chain --episodes 2000
"""

import argparse
import time
from collections.abc import Sequence

import torch
from torch import Tensor

import cairn.benchmarks.tables as tables
from cairn.agents.explors import TEACHERS, Explors
from cairn.envs.batch import BatchEnv
from cairn.envs.tabular.line import LineKeyBatch
from cairn.envs.tabular.vector import TabularBatch
from cairn.envs.tabular.worlds import chain, room

WORLDS = ("chain", "room", "linek")
EPISODES = {"chain": 20_000, "room": 20_000, "linek": 6_000}
CELLS = 10  # of LineK, each with and without the key
POINTS = 40  # of the curve


def cells(obs: Tensor) -> Tensor:
    """LineK's cells, int64 ``[N]``: the tenth of the line, and whether a key is held."""
    return (obs[:, 0] * CELLS).long().clamp(0, CELLS - 1) + CELLS * obs[:, 1].long()


def methods(world: str) -> tuple[str, ...]:
    """Those that the world allows."""
    return tuple(name for name in TEACHERS if world != "linek" or name != "lirpg")


def make(world: str, seeds: int, seed: int = 0) -> Explors:
    """A world with every method, ``seeds`` lanes each."""
    names = [name for name in methods(world) for _ in range(seeds)]
    if world == "linek":
        line: BatchEnv = LineKeyBatch(len(names))
        return Explors(line, names, cells=cells, states=2 * CELLS, actor_rate=0.2, limit=0.1, seed=seed)
    scene = chain() if world == "chain" else room()
    return Explors(TabularBatch(scene, len(names)), names, seed=seed)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure the worlds that are missing, then print the table and draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", nargs="+", default=list(WORLDS), choices=WORLDS)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--episodes", type=int, help="of each run, a multiple of 40; left out, as in the table")
    parser.add_argument("--out", default=str(tables.RESULTS / "explors"))
    args = parser.parse_args(argv)
    for key, value in tables.machine().items():
        print(f"{key}: {value}")
    found = tables.Cells(f"{args.out}/cells.csv", ("world", "method", "seed", "seeds", "episodes"))
    for world in args.worlds:
        names, episodes = methods(world), args.episodes or EPISODES[world]
        keys = [
            {"world": world, "method": m, "seed": s, "seeds": args.seeds, "episodes": episodes}
            for m in names for s in range(args.seeds)
        ]  # fmt: skip
        if all(map(found.done, keys)):
            continue
        began, shown = time.process_time(), time.monotonic()
        agent = make(world, args.seeds)
        piece = episodes // POINTS
        curve = []
        for point in range(POINTS):
            agent.learn(piece)
            curve.append(torch.stack(agent.returns).mean(0))
            agent.returns.clear()
            now = curve[-1].reshape(len(names), -1).mean(1).tolist()
            if time.monotonic() - shown > 10 or point == POINTS - 1:
                shown = time.monotonic()
                text = "  ".join(f"{m} {v:.2f}" for m, v in zip(names, now))
                print(f"{world} {agent.episodes}/{episodes} episodes, mean return: {text}", flush=True)
        spent = time.process_time() - began
        whole = torch.stack(curve)  # [points, methods * seeds]
        for i, row in enumerate(keys):
            values = whole[:, i].tolist()
            cell = row | {"final": f"{sum(values[-4:]) / 4:.4f}", "area": f"{sum(values) / POINTS:.4f}"}
            cell |= {"cpu_s": f"{spent / len(keys):.1f}", "curve": " ".join(f"{v:.4f}" for v in values)}
            if not found.done(cell):
                found.add(cell)
    report(found, args.out, args.seeds, {w: args.episodes or EPISODES[w] for w in WORLDS})


def report(found: tables.Cells, out: str, seeds: int, episodes: dict[str, int]) -> None:
    """Print the table, and write the picture."""
    rows = [r for r in found.rows() if (r["seeds"], r["episodes"]) == (str(seeds), str(episodes[r["world"]]))]
    worlds = [w for w in WORLDS if any(r["world"] == w for r in rows)]
    for column, what in (("final", "the last tenth of the episodes"), ("area", "all episodes")):
        print(f"\ntask's discounted return over {what}, IQM of {seeds} seeds, 95 % interval")
        print("| world | " + " | ".join(TEACHERS) + " |\n|---|" + "---|" * len(TEACHERS))
        for world in worlds:
            texts = []
            for method in TEACHERS:
                values = [float(r[column]) for r in rows if (r["world"], r["method"]) == (world, method)]
                if not values:
                    texts.append("none")
                    continue
                low, high = tables.interval(values)
                texts.append(f"{tables.iqm(values):.2f} ({low:.2f} to {high:.2f})")
            print(f"| {world} | " + " | ".join(texts) + " |")
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(worlds), figsize=(5 * len(worlds), 3.6), squeeze=False)
    for axis, world in zip(axes[0], worlds):
        for method in TEACHERS:
            curves = [
                list(map(float, r["curve"].split())) for r in rows if (r["world"], r["method"]) == (world, method)
            ]
            if not curves:
                continue
            points = list(zip(*curves))
            at = [(i + 1) * episodes[world] // POINTS for i in range(len(points))]
            line = axis.plot(at, [tables.iqm(p) for p in points], label=method)[0]
            bounds = [tables.interval(p, resamples=500) for p in points]
            axis.fill_between(at, [b[0] for b in bounds], [b[1] for b in bounds], alpha=0.2, color=line.get_color())
        axis.set(title=world, xlabel="episodes")
    axes[0][0].set_ylabel("task's discounted return")
    axes[0][0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(f"{out}/explors.png", dpi=110)
    print(f"curves: {out}/explors.png")


if __name__ == "__main__":
    main()
