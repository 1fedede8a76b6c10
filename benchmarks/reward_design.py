"""How fast REINFORCE learns Chain, Room and LineK from rewards that a teacher designed: EXPRD and EXPADARD.

Room and LineK are those of the AAMAS 2024 paper (reward 10, discount 0.95, the goal ends the episode); Chain is that of
EXPLORS with the same discount. Against the original reward and the potential of the optimal values. Designs are within
the original's bound; EXPRD once with 5 states that pay and once with all; EXPADARD is solved anew for each run's own
policy, every 100 episodes' time. The policy's step size is 0.1 where the paper has 0.01 and 200,000 episodes. The
policy's exact return is what is measured. Needs cvxpy (extra ``design``).

    cairn bench reward_design      # or: python benchmarks/reward_design.py; goes on where it was stopped
    cairn bench reward_design --worlds linek --episodes 400
"""

import argparse
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

import cairn.benchmarks.tables as tables
from cairn.agents.tabular import REINFORCE
from cairn.agents.teacher import AdaptiveTeacher
from cairn.envs.tabular.mdp import MDP
from cairn.envs.tabular.scene import Scene
from cairn.envs.tabular.solve import policy_return, value_iteration
from cairn.envs.tabular.vector import TabularBatch
from cairn.envs.tabular.worlds import chain, line_key, room
from cairn.shaping.design import DesignedReward, design_exprd, informativeness, invariant

WORLDS: dict[str, Callable[[], Scene]] = {
    "chain": lambda: chain(discount=0.95),
    "room": lambda: room(reward=10.0, goal_ends=True, discount=0.95),
    "linek": lambda: line_key(),
}
METHODS = ("original", "potential", "exprd_5", "exprd", "expadard")
EVERY = 100  # episodes' time between two designs of EXPADARD
POINTS = 40


def bound(mdp: MDP) -> float:
    """The original reward's."""
    return float(mdp.expected_reward().abs().max())


def tables_of(mdp: MDP) -> dict[str, Tensor]:
    """The rewards that do not change, ``[S, A]``."""
    reward, values = mdp.expected_reward(), value_iteration(mdp).values
    return {
        "original": reward,
        "potential": reward + mdp.discount * mdp.expect(values) - values[:, None],
        "exprd_5": design_exprd(mdp, r_max=bound(mdp), budget=5).reward,
        "exprd": design_exprd(mdp, r_max=bound(mdp)).reward,
        "expadard": torch.zeros_like(reward),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing, then print the table and draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", nargs="+", default=list(WORLDS), choices=list(WORLDS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--episodes", type=int, default=4000, help="of full length, of each run; a multiple of 40")
    parser.add_argument("--out", default=str(tables.RESULTS / "reward_design"))
    args = parser.parse_args(argv)
    for key, value in tables.machine().items():
        print(f"{key}: {value}")
    cells = tables.Cells(f"{args.out}/cells.csv", ("world", "method", "seed", "seeds", "episodes"))
    for world in args.worlds:
        keys: list[dict[str, object]] = [
            {"world": world, "method": m, "seed": s, "seeds": args.seeds, "episodes": args.episodes}
            for m in METHODS for s in range(args.seeds)
        ]  # fmt: skip
        if not all(map(cells.done, keys)):
            measure(world, keys, cells, args.seeds, args.episodes)
    report(cells, args.out, args.seeds, args.episodes)


def measure(world: str, keys: list[dict[str, object]], cells: tables.Cells, seeds: int, episodes: int) -> None:
    """All methods and seeds side by side, a lane each."""
    scene = WORLDS[world]()
    mdp, steps = scene.mdp, scene.max_steps
    assert steps is not None
    best = float((mdp.start * value_iteration(mdp).values).sum())
    designed = tables_of(mdp)
    for name, table in designed.items():
        if name != "expadard":
            told, kept = informativeness(mdp, table), invariant(mdp, table)
            print(f"{world} {name:10} informativeness {told:.3f}, keeps the best policies: {kept}", flush=True)
    term = DesignedReward(torch.stack([designed[name] for name in METHODS]).repeat_interleave(seeds, 0))
    env = TabularBatch(scene, len(keys))
    agent = REINFORCE(env, learning_rate=0.1, gamma=mdp.discount, every=2, memory=5, reward=term)
    first = METHODS.index("expadard") * seeds
    lanes = range(first, first + seeds)
    teach = AdaptiveTeacher(mdp, term, r_max=bound(mdp), every=EVERY * steps, lanes=lanes)
    teach.teach(agent)
    began, curve = time.process_time(), []
    for point in range(POINTS):
        agent.learn(episodes * steps // POINTS, callback=teach)
        curve.append(torch.stack([policy_return(mdp, policy) for policy in agent.policy()]) / best)
        now = curve[-1].reshape(len(METHODS), -1).mean(1).tolist()
        text = "  ".join(f"{m} {v:.2f}" for m, v in zip(METHODS, now))
        done = (point + 1) * episodes // POINTS
        print(f"{world} {done}/{episodes} episodes, share of the optimum: {text}", flush=True)
    spent = time.process_time() - began
    whole = torch.stack(curve)
    for i, key in enumerate(keys):
        values = whole[:, i].tolist()
        reached = [(p + 1) * episodes // POINTS for p, v in enumerate(values) if v >= 0.9]
        row = key | {"final": f"{values[-1]:.4f}", "area": f"{sum(values) / POINTS:.4f}"}
        row |= {"to_90": reached[0] if reached else "inf", "cpu_s": f"{spent / len(keys):.1f}"}
        row |= {"curve": " ".join(f"{v:.4f}" for v in values)}
        if not cells.done(row):
            cells.add(row)


def report(cells: tables.Cells, out: str, seeds: int, episodes: int) -> None:
    """Print the table, and write the picture."""
    rows = [r for r in cells.rows() if (r["seeds"], r["episodes"]) == (str(seeds), str(episodes))]
    worlds = [w for w in WORLDS if any(r["world"] == w for r in rows)]
    print(f"\nexact return of the policy over the optimum's, IQM of {seeds} seeds, 95 % interval")
    print("| world | reward | mean over training | at the end | episodes to 90 % |\n|---|---|---|---|---|")
    for world in worlds:
        for method in METHODS:
            texts = []
            for column, digits in (("area", 2), ("final", 2), ("to_90", 0)):
                found = [float(r[column]) for r in rows if (r["world"], r["method"]) == (world, method)]
                low, high = tables.interval(found)
                texts.append(f"{tables.iqm(found):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})")
            print(f"| {world} | {method} | " + " | ".join(texts) + " |")
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(worlds), figsize=(5 * len(worlds), 3.8), squeeze=False, sharey=True)
    for axis, world in zip(axes[0], worlds):
        for method in METHODS:
            mine = [r for r in rows if (r["world"], r["method"]) == (world, method)]
            points = list(zip(*[list(map(float, r["curve"].split())) for r in mine]))
            at = [(i + 1) * episodes // POINTS for i in range(len(points))]
            line = axis.plot(at, [tables.iqm(p) for p in points], label=method)[0]
            bounds = [tables.interval(p, resamples=500) for p in points]
            axis.fill_between(at, [b[0] for b in bounds], [b[1] for b in bounds], alpha=0.2, color=line.get_color())
        axis.set(xlabel="episodes", title=world)
    axes[0, 0].set_ylabel("share of the optimal return")
    axes[0, -1].legend()
    figure.tight_layout()
    figure.savefig(f"{out}/reward_design.png", dpi=110)
    print(f"curves: {out}/reward_design.png")


if __name__ == "__main__":
    main()
