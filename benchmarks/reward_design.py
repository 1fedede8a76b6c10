"""How fast REINFORCE learns Chain, Room and LineK from rewards that a teacher designed: EXPRD and EXPADARD.

Room and LineK are those of the AAMAS 2024 paper (reward 10, discount 0.95, the goal ends the episode); Chain is that of
EXPLORS with the same discount. Against the original reward and the potential of the optimal values. Designs are within
the original's bound; EXPRD with 5 states that pay, with all, and with all at the smallest price on their size
(sparsity 0.001); EXPADARD is solved anew for each run's own policy, every 100 episodes' time. The policy's step size is
0.1 where the paper has 0.01 and 200,000 episodes. The policy's exact return is what is measured. Needs cvxpy (extra
``design``).

What the price does: many rewards tell all that there is to tell, and of those a solver returns some one in the middle,
whose sizes mean nothing. On LineK it punishes nearly all that a beginner does: to the uniform policy leaving by the
wrong end then looks better than staying by 4.8, and by 0.1 with the price. The command says this of every design; that
it is what keeps REINFORCE from learning there is not borne out, for with the price it learns as little.

    cairn bench reward_design      # or: python benchmarks/reward_design.py; goes on where it was stopped
    cairn bench reward_design --worlds linek --episodes 400
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

import cairn.benchmarks.tables as tables
from cairn.agents.tabular import REINFORCE
from cairn.agents.teacher import AdaptiveTeacher
from cairn.envs.tabular.mdp import MDP
from cairn.envs.tabular.scene import Scene
from cairn.envs.tabular.solve import policy_return, q_of_policy, uniform, value_iteration
from cairn.envs.tabular.vector import TabularBatch
from cairn.envs.tabular.worlds import chain, line_key, room
from cairn.shaping.design import DesignedReward, design_exprd, informativeness, invariant

WORLDS: dict[str, Callable[[], Scene]] = {
    "chain": lambda: chain(discount=0.95),
    "room": lambda: room(reward=10.0, goal_ends=True, discount=0.95),
    "linek": lambda: line_key(),
}
EPISODES = {"chain": 4000, "room": 4000, "linek": 2000}
METHODS = ("original", "potential", "exprd_5", "exprd", "exprd_sparse", "expadard")
SPARSITY = 1e-3
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
        "exprd_sparse": design_exprd(mdp, r_max=bound(mdp), sparsity=SPARSITY).reward,
        "expadard": torch.zeros_like(reward),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing, then print the table and draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", nargs="+", default=list(WORLDS), choices=list(WORLDS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument(
        "--episodes", type=int, help="of full length, of each run, a multiple of 40; left out, EPISODES"
    )
    parser.add_argument("--out", default=str(tables.RESULTS / "reward_design"))
    args = parser.parse_args(argv)
    for key, value in tables.machine().items():
        print(f"{key}: {value}")
    cells = tables.Cells(f"{args.out}/cells.csv", ("world", "method", "seed", "seeds", "episodes"))
    for world in args.worlds:
        episodes = args.episodes or EPISODES[world]
        keys: list[dict[str, object]] = [
            {"world": world, "method": m, "seed": s, "seeds": args.seeds, "episodes": episodes}
            for m in args.methods for s in range(args.seeds)
        ]  # fmt: skip
        missing = [key for key in keys if not cells.done(key)]
        if missing:
            measure(world, missing, cells, episodes)
    report(cells, args.out, args.seeds, {world: args.episodes or EPISODES[world] for world in WORLDS})


def leaving(mdp: MDP, table: Tensor) -> float:
    """How much more than staying an action that ends the episode without reward looks worth to the uniform policy.

    The largest of all states; 0 where there is no such state, or staying always looks better.
    """
    ends = mdp.dense().prob[..., mdp.terminal].sum(-1) > 0.5
    wrong = ends & (mdp.expected_reward() == 0) & ~mdp.terminal[:, None]
    q = q_of_policy(mdp.with_reward(table), uniform(mdp))
    gain = torch.where(wrong, q, -torch.inf).amax(-1) - torch.where(ends, -torch.inf, q).amax(-1)
    return max(float(gain[~mdp.terminal].max()), 0.0)


def measure(world: str, keys: list[dict[str, object]], cells: tables.Cells, episodes: int) -> None:
    """The methods and seeds that are missing side by side, a lane each."""
    scene = WORLDS[world]()
    mdp, steps = scene.mdp, scene.max_steps
    assert steps is not None
    best = float((mdp.start * value_iteration(mdp).values).sum())
    designed = tables_of(mdp)
    methods = [str(key["method"]) for key in keys]
    for name, table in designed.items():
        if name != "expadard":
            told, kept = informativeness(mdp, table), invariant(mdp, table)
            print(
                f"{world} {name:12} informativeness {told:.3f}, keeps the best policies: {kept}, "
                f"leaving looks better by {leaving(mdp, table):.2f}", flush=True,
            )  # fmt: skip
    term = DesignedReward(torch.stack([designed[name] for name in methods]))
    env = TabularBatch(scene, len(keys))
    agent = REINFORCE(env, learning_rate=0.1, gamma=mdp.discount, every=2, memory=5, reward=term)
    taught = [lane for lane, name in enumerate(methods) if name == "expadard"]
    teach = AdaptiveTeacher(mdp, term, r_max=bound(mdp), every=EVERY * steps, lanes=taught) if taught else None
    if teach is not None:
        teach.teach(agent)
    began, curve = time.process_time(), []
    for point in range(POINTS):
        agent.learn(episodes * steps // POINTS, callback=teach)
        curve.append(torch.stack([policy_return(mdp, policy) for policy in agent.policy()]) / best)
        now = {m: [float(v) for v, name in zip(curve[-1], methods) if name == m] for m in dict.fromkeys(methods)}
        text = "  ".join(f"{m} {sum(v) / len(v):.2f}" for m, v in now.items())
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


def table(rows: list[dict[str, str]]) -> str:
    """The table in Markdown: IQM over seeds and 95 % intervals."""
    lines = [
        "| world | reward | seeds | mean over training | at the end | episodes to 90 % |",
        "|---|---|---|---|---|---|",
    ]
    for world in WORLDS:
        for method in METHODS:
            mine = [r for r in rows if (r["world"], r["method"]) == (world, method)]
            texts = []
            for column, digits in (("area", 2), ("final", 2), ("to_90", 0)) if mine else ():
                found = [float(r[column]) for r in mine]
                low, high = tables.interval(found)
                texts.append(f"{tables.iqm(found):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})")
            if mine:
                lines.append(f"| {world} | {method} | {len(mine)} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


def report(cells: tables.Cells, out: str, seeds: int, episodes: dict[str, int]) -> None:
    """Print the table and write it to README.md, with the picture."""
    wanted = {world: (str(seeds), str(count)) for world, count in episodes.items()}
    rows = [r for r in cells.rows() if (r["seeds"], r["episodes"]) == wanted[r["world"]]]
    worlds = [w for w in WORLDS if any(r["world"] == w for r in rows)]
    facts = ", ".join(f"{key} {value}" for key, value in tables.machine().items())
    lengths = ", ".join(f"{episodes[world]:,} on {world}" for world in worlds)
    text = (
        f"Written by `python benchmarks/reward_design.py`. {facts}.\n\nExact return of the policy over the optimum's, "
        f"IQM over seeds and 95 % interval; episodes: {lengths}.\n\n{table(rows)}\n\n![curves](reward_design.png)\n"
    )
    Path(out, "README.md").write_text(text, encoding="utf-8")
    print(text)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(worlds), 3.8), layout="constrained")
    axes = figure.subplots(1, len(worlds), squeeze=False, sharey=True)[0]
    for axis, world in zip(axes, worlds):
        for i, method in enumerate(METHODS):
            mine = [r for r in rows if (r["world"], r["method"]) == (world, method)]
            points = list(zip(*[list(map(float, r["curve"].split())) for r in mine]))
            at = [(k + 1) * episodes[world] // POINTS for k in range(len(points))]
            axis.plot(at, [tables.iqm(p) for p in points], label=method, color=f"C{i}")
            bounds = [tables.interval(p, resamples=500) for p in points]
            axis.fill_between(at, [b[0] for b in bounds], [b[1] for b in bounds], alpha=0.2, color=f"C{i}")
        axis.set(xlabel="episodes", title=world)
    if worlds:
        axes[0].set_ylabel("share of the optimal return")
        axes[-1].legend()
    figure.savefig(f"{out}/reward_design.png", dpi=110)


if __name__ == "__main__":
    main()
