"""How fast learners learn Chain, Room and LineK from rewards that a teacher designed: EXPRD and EXPADARD.

Room and LineK are those of the AAMAS 2024 paper (reward 10, discount 0.95, the goal ends the episode); Chain is that of
EXPLORS with the same discount. Against the original reward and the potential of the optimal values. Designs are within
the original's bound; EXPRD with 5 states that pay, with all, with all at the smallest price on their size (sparsity
0.001), and with all under a linear loss in place of the hinge; EXPADARD is solved anew for each run's own policy, every
100 episodes' time.

- ``q``: Q-learning with step size 0.5 and exploration 0.1, the learner of EXPRD's paper (NeurIPS 2021). Measured is the
  greedy policy.
- ``reinforce``: the learner of EXPADARD's paper. Its step size is 0.1 where the paper has 0.01 and 50,000 (LineK) or
  200,000 episodes. Measured is its policy.

What is measured is a policy's exact return.

Why EXPRD does so differently with the two: under the hinge a margin as large as the original's, which is 0.2 to 0.7 of
the 10 that are allowed on LineK, tells all that there is to tell. Of the many rewards that do, the solver returns some
one in the middle, where right actions earn next to nothing and wrong ones are punished. Q-learning asks which value is
larger and finds the goal at once. REINFORCE on LineK goes out by the wrong end, which earns nothing: going on earns
more only for a policy that is right in 77 % of its steps (the command says this share of every design). With the price
on size it is worth going on from the beginning, but rewards are small and so are REINFORCE's steps. The linear loss
makes margins as large as allowed, and 51 % is enough. On Chain and Room REINFORCE learns from it as fast as from
EXPADARD too, and slower from the smaller rewards under the price on size than from those without it.

    cairn bench reward_design      # or: python benchmarks/reward_design.py; goes on where it was stopped
    cairn bench reward_design --worlds linek --learners q --episodes 400
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import cairn.benchmarks.tables as tables
from cairn.agents.tabular import REINFORCE, QLearning
from cairn.agents.teacher import AdaptiveTeacher
from cairn.envs.tabular.mdp import MDP
from cairn.envs.tabular.scene import Scene
from cairn.envs.tabular.solve import policy_return, value_iteration
from cairn.envs.tabular.vector import TabularBatch
from cairn.envs.tabular.worlds import chain, line_key, room
from cairn.shaping.design import DesignedReward, design_exprd, informativeness, invariant, teacher

WORLDS: dict[str, Callable[[], Scene]] = {
    "chain": lambda: chain(discount=0.95),
    "room": lambda: room(reward=10.0, goal_ends=True, discount=0.95),
    "linek": lambda: line_key(),
}
EPISODES = {
    "q": {"chain": 400, "room": 400, "linek": 400},
    "reinforce": {"chain": 4000, "room": 4000, "linek": 2000},
}
METHODS = ("original", "potential", "exprd_5", "exprd", "exprd_sparse", "exprd_linear", "expadard")
EPSILON = 0.1
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
        "exprd_linear": design_exprd(mdp, r_max=bound(mdp), loss="linear").reward,
        "expadard": torch.zeros_like(reward),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing, then print the table and draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", nargs="+", default=list(WORLDS), choices=list(WORLDS))
    parser.add_argument("--learners", nargs="+", default=list(EPISODES), choices=list(EPISODES))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument(
        "--episodes", type=int, help="of full length, of each run, a multiple of 40; left out, EPISODES"
    )
    parser.add_argument("--out", default=str(tables.RESULTS / "reward_design"))
    args = parser.parse_args(argv)
    for key, value in tables.machine().items():
        print(f"{key}: {value}")
    cells = tables.Cells(f"{args.out}/cells.csv", ("learner", "world", "method", "seed", "seeds", "episodes"))
    lengths = {name: {w: args.episodes or n for w, n in counts.items()} for name, counts in EPISODES.items()}
    for learner in args.learners:
        for world in args.worlds:
            keys: list[dict[str, object]] = [
                {"learner": learner, "world": world, "method": m, "seed": s, "seeds": args.seeds,
                 "episodes": lengths[learner][world]}
                for m in args.methods if m != "expadard" or learner == "reinforce" for s in range(args.seeds)
            ]  # fmt: skip
            missing = [key for key in keys if not cells.done(key)]
            if missing:
                measure(learner, world, missing, cells, lengths[learner][world])
    report(cells, args.out, args.seeds, lengths)


def break_even(mdp: MDP, table: Tensor) -> float:
    """How often a policy must be right, the other actions being alike, before its return is above 0.

    An end without reward is worth 0, and worth more than going on to any policy that is right less often.
    """
    right, other = teacher(mdp).policy, mdp.with_reward(table)
    for percent in range(round(100 / mdp.actions), 101):
        share = percent / 100
        policy = share * right + (1 - share) * (1 - right) / (mdp.actions - 1)
        if float(policy_return(other, policy)) > 0:
            return share
    return float("inf")


def greedy(agent: QLearning) -> Tensor:
    """Its policy without exploration, ties shared."""
    return (agent.policy() - EPSILON / agent.actions) / (1 - EPSILON)


def measure(learner: str, world: str, keys: list[dict[str, object]], cells: tables.Cells, episodes: int) -> None:
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
                f"{learner} {world} {name:12} informativeness {told:.3f}, keeps the best policies: {kept}, "
                f"pays who is right in {break_even(mdp, table):.0%} of steps", flush=True,
            )  # fmt: skip
    term = DesignedReward(torch.stack([designed[name] for name in methods]))
    env = TabularBatch(scene, len(keys))
    agent: QLearning | REINFORCE
    if learner == "q":
        agent = QLearning(env, learning_rate=0.5, epsilon=EPSILON, gamma=mdp.discount, reward=term)
    else:
        agent = REINFORCE(env, learning_rate=0.1, gamma=mdp.discount, every=2, memory=5, reward=term)
    taught = [lane for lane, name in enumerate(methods) if name == "expadard"]
    teach = AdaptiveTeacher(mdp, term, r_max=bound(mdp), every=EVERY * steps, lanes=taught) if taught else None
    if teach is not None:
        teach.teach(agent)
    began, curve = time.process_time(), []
    for point in range(POINTS):
        agent.learn(episodes * steps // POINTS, callback=teach)
        policies = greedy(agent) if isinstance(agent, QLearning) else agent.policy()
        curve.append(torch.stack([policy_return(mdp, policy) for policy in policies]) / best)
        now = {m: [float(v) for v, name in zip(curve[-1], methods) if name == m] for m in dict.fromkeys(methods)}
        text = "  ".join(f"{m} {sum(v) / len(v):.2f}" for m, v in now.items())
        done = (point + 1) * episodes // POINTS
        print(f"{learner} {world} {done}/{episodes} episodes, share of the optimum: {text}", flush=True)
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
    """A learner's table in Markdown: IQM over seeds and 95 % intervals."""
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


def report(cells: tables.Cells, out: str, seeds: int, episodes: dict[str, dict[str, int]]) -> None:
    """Print the tables and write them to README.md, with the picture."""
    found = [r for r in cells.rows() if r["seeds"] == str(seeds)]
    found = [r for r in found if r["episodes"] == str(episodes[r["learner"]][r["world"]])]
    learners = [name for name in EPISODES if any(r["learner"] == name for r in found)]
    facts = ", ".join(f"{key} {value}" for key, value in tables.machine().items())
    assert __doc__ is not None
    parts = [
        f"Written by `python benchmarks/reward_design.py`. {facts}.",
        "Exact return of the policy over the optimum's, IQM over seeds and 95 % interval.",
        __doc__[__doc__.index("Why EXPRD") : __doc__.index("    cairn bench")].strip(),
    ]
    for name in learners:
        rows = [r for r in found if r["learner"] == name]
        lengths = ", ".join(f"{episodes[name][w]:,} on {w}" for w in WORLDS if any(r["world"] == w for r in rows))
        parts += [f"## {name}, episodes: {lengths}", table(rows)]
    text = "\n\n".join([*parts, "![curves](reward_design.png)"]) + "\n"
    Path(out, "README.md").write_text(text, encoding="utf-8")
    print(text)
    picture(found, learners, episodes, Path(out, "reward_design.png"))


def picture(found: list[dict[str, str]], learners: list[str], episodes: dict[str, dict[str, int]], path: Path) -> None:
    """The curves, a row for each learner."""
    from matplotlib.figure import Figure

    worlds = [w for w in WORLDS if any(r["world"] == w for r in found)]
    figure = Figure(figsize=(5 * max(len(worlds), 1), 3.8 * max(len(learners), 1)), layout="constrained")
    shown: dict[str, Any] = {}
    grid = figure.subplots(max(len(learners), 1), max(len(worlds), 1), squeeze=False, sharey=True)
    for name, axes in zip(learners, grid):
        for world, axis in zip(worlds, axes):
            for i, method in enumerate(METHODS):
                mine = [r for r in found if (r["learner"], r["world"], r["method"]) == (name, world, method)]
                points = list(zip(*[list(map(float, r["curve"].split())) for r in mine]))
                if not points:
                    continue
                at = [(k + 1) * episodes[name][world] // POINTS for k in range(len(points))]
                (shown[method],) = axis.plot(at, [tables.iqm(p) for p in points], color=f"C{i}")
                bounds = [tables.interval(p, resamples=500) for p in points]
                axis.fill_between(at, [b[0] for b in bounds], [b[1] for b in bounds], alpha=0.2, color=f"C{i}")
            axis.set(xlabel="episodes", title=f"{world}, {name}")
        axes[0].set_ylabel("share of the optimal return")
    some = [method for method in METHODS if method in shown]
    figure.legend([shown[method] for method in some], some, loc="outside lower center", ncols=max(len(some), 1))
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
