"""Diversity at equal return, offline: likelihood (MLE) beside likelihood with IQ-Learn's temporal difference.

A slippery grid in which two walls of pits have three gates each, so that there are nine ways to the goals, all paid
alike. A demonstrator knows nine ways by heart, draws one for each episode (evenly, or skewed: 0.2, 0.7 and 0.1 for a
wall's gates), and shows 20 successes, of which a fifth is held out. A network learns from the rest by MLE (plain, with
weight decay, with an entropy bonus) or by IQ-Learn's offline objective (five weights of the squared inverse temporal
difference), all with the same shape, rate, minibatches and number of updates, and is kept at the end and where the
held-out likelihood was best. Each is run at thirteen temperatures; returns and ways are the Markov chain's, exactly.

Coverage is the effective number of ways of the episodes that succeed, the exponential of their entropy. It is compared
at equal return: along a network's temperatures, at stated shares of the demonstrator's return, 0 where no temperature
comes to that return. For each return and demonstrator, each method's setting and stop are the best of ten on six other
seeds. After Wulfmeier et al., "Imitating language via scalable inverse reinforcement learning" (2024), which claims
more diversity at equal performance.

    cairn bench imitation_modes      # or: python benchmarks/imitation_modes.py; goes on where it was stopped
    cairn bench imitation_modes --shown 100      # then: the settings chosen with 20, learning from 100

Whether it is a matter of updates (one line; kept in the folder longer):

    cairn bench imitation_modes --demonstrators even --settings mle "iq, weight 10" --tuning 0 --seeds 6
    --updates 3000 --out benchmarks/results/imitation_modes/longer
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

import cairn.benchmarks.tables as tables
from cairn.agents.data.collecting import collect
from cairn.agents.data.demonstrations import Demonstrations
from cairn.agents.imitation import BC, IQLearn
from cairn.envs.tabular import Scene, TabularBatch, TabularEnv, value_iteration
from cairn.envs.tabular.solve import best_actions, visits
from cairn.envs.tabular.worlds import grid

PITS = "....x....xG"
MAP = (PITS, "....a....dG", PITS, PITS, "S...b....eG", PITS, PITS, "....c....fG", PITS)
GATES = ("abc", "def")
DEMONSTRATORS = {"even": (1 / 3, 1 / 3, 1 / 3), "skewed": (0.2, 0.7, 0.1)}  # how often a wall's gates are chosen
SHOWN, UPDATES, ROUND, ROWS = 20, 1000, 50, 64
TEMPERATURES = (0.05, 0.1, 0.25, 0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 3.0, 4.0, 6.0)
LEVELS = (0.8, 0.9, 0.95, 0.99)  # of the demonstrator's return
METHODS: dict[str, dict[str, dict[str, Any]]] = {
    "mle": {
        "mle": {},
        "mle, decay 0.001": {"l2": 1e-3},
        "mle, decay 0.01": {"l2": 1e-2},
        "mle, entropy 0.03": {"ent_coef": 0.03},
        "mle, entropy 0.1": {"ent_coef": 0.1},
    },
    "iq": {f"iq, weight {w:g}": {"alpha": 1 / (4 * w)} for w in (0.01, 0.1, 1.0, 10.0, 100.0)},
}
STOPS = ("end", "held out")
KEYS = ("demonstrator", "shown", "seed", "setting", "stop", "updates")
TUNING = tuple(range(1000, 1006))  # the seeds on which settings are chosen


@cache
def scene(closed: str = "") -> Scene:
    """The world, some of its gates being pits."""
    rows = ["".join("x" if letter in closed else letter for letter in row) for row in MAP]
    return grid(rows, goals={"G": 1.0, "x": 0.0}, slip=0.1, max_steps=100)


@cache
def known_ways() -> Tensor:
    """What the demonstrator does on each way, ``[9, S, A]``: the best where all other gates are pits, ties evenly."""
    policies = []
    for way in product(*GATES):
        others = "".join(gate for gate in "".join(GATES) if gate not in way)
        best = best_actions(value_iteration(scene(others).mdp).q).double()
        policies.append(best / best.sum(-1, keepdim=True))
    return torch.stack(policies)


def shares(demonstrator: str) -> Tensor:
    """How often the demonstrator sets out on each way, ``[9]``."""
    share = torch.tensor(DEMONSTRATORS[demonstrator], dtype=torch.float64)
    return torch.outer(share, share).flatten()


@cache
def succeeds(demonstrator: str) -> Tensor:
    """How often the demonstrator succeeds by each way, ``[9]``."""
    return shares(demonstrator) @ ways_taken(scene(), known_ways())


def ways_taken(world: Scene, policies: Tensor) -> Tensor:
    """How often an episode succeeds by each way, exactly: policies ``[T, S, A]`` to ``[T, 9]``, sums being returns.

    A way is the pair of gates that were gone through last.
    """
    assert world.labels is not None and world.success is not None
    chain, _ = world.mdp.under(policies)
    gates = [[int(world.labels[:, world.propositions.index(g)].nonzero()) for g in wall] for wall in GATES]
    at = torch.zeros(len(policies), 4, 4, world.mdp.states, dtype=torch.float64)
    at[:, 0, 0] = world.mdp.start
    for _ in range(world.max_steps or 0):
        at = (at.flatten(1, 2) @ chain).reshape(at.shape)
        for axis, wall in enumerate(gates, 1):
            for k, cell in enumerate(wall, 1):
                there = at[..., cell].sum(axis)
                at[..., cell] = 0.0
                at.select(axis, k)[..., cell] = there
    return at[..., world.success].sum(-1)[:, 1:, 1:].flatten(1)


@cache
def cloned(demonstrator: str) -> Tensor:
    """What MLE comes to with demonstrations without end, ``[9]``: the demonstrator's actions in each state.

    They forget which way was meant, so where ways cross these are other frequencies than the demonstrator's own.
    """
    acts = torch.stack([visits(scene().mdp, policy, scene().max_steps or 1).sum(0) for policy in known_ways()])
    mixed = (shares(demonstrator)[:, None, None] * acts).sum(0) + 1e-300  # unseen states: any action
    return ways_taken(scene(), (mixed / mixed.sum(-1, keepdim=True))[None])[0]


def effective(ways: Tensor) -> Tensor:
    """The effective number of ways ``[T]`` of their frequencies ``[T, W]``: exp of the entropy, 0 without any."""
    share = ways / ways.sum(-1, keepdim=True).clamp_min(1e-300)
    return torch.where(ways.sum(-1) > 0, torch.special.entr(share).sum(-1).exp(), 0.0)


def coverage_at(returns: Sequence[float], covered: Sequence[float], level: float) -> float:
    """The best coverage at a return of ``level`` or more, along points in the order of their temperatures.

    Between neighbours it is linear, as if each episode drew one of the two; 0 where no point comes that high.
    """
    best = max((c for r, c in zip(returns, covered) if r >= level), default=0.0)
    points = list(zip(returns, covered))
    for (r, c), (s, d) in zip(points, points[1:]):
        if min(r, s) < level <= max(r, s):
            best = max(best, c + (d - c) * (level - r) / (s - r))
    return best


@lru_cache(1)
def show(demonstrator: str, shown: int, seed: int) -> Demonstrations:
    """Successes of the demonstrator; a state is its row and its column, each one-hot."""
    known, share, way = known_ways(), shares(demonstrator), 0

    def act(obs: Tensor, info: Mapping[str, Any]) -> Tensor:
        nonlocal way
        if "_final_obs" not in info:  # an episode begins
            way = int(torch.multinomial(share, 1))
        return torch.multinomial(known[way, obs], 1)[:, 0]

    x = collect(act, TabularBatch(scene(), 1), shown, seed=seed, only_success=True)
    assert isinstance(x.states, Tensor)
    return Demonstrations(
        seen().observation_space, x.action_space, features()[x.states], x.action, x.reward, x.terminated, x.truncated,
        x.lengths,
    )  # fmt: skip


@cache
def features() -> Tensor:
    """What the networks see of each state, float32 ``[S, rows + columns]``."""
    place = scene().place
    assert place is not None
    sides = place.amax(0) + 1
    return torch.cat([torch.nn.functional.one_hot(p, int(n)) for p, n in zip(place.T, sides)], -1).float()


def seen() -> gym.Env[Any, Any]:
    """The world as the learners are told of it: its spaces. Nobody acts in it."""
    table = features().numpy()
    box = gym.spaces.Box(0.0, 1.0, table.shape[1:], np.float32)
    return gym.wrappers.TransformObservation(TabularEnv(scene()), lambda state: table[state], box)


def learn(setting: str, demos: Demonstrations, seed: int, updates: int) -> dict[str, Tensor]:
    """The logits ``[S, A]`` of a network that has learned, at the end and where held-out steps were likeliest."""
    apart = demos.episodes // 5
    held, kept = demos.select(range(apart)).stretch(), demos.select(range(apart, demos.episodes))
    own: dict[str, Any] = {**METHODS["mle"], **METHODS["iq"]}[setting]
    net: dict[str, Any] = {"net_arch": [64, 64], "activation_fn": torch.nn.ReLU}
    model: BC | IQLearn
    common: dict[str, Any] = {"learning_rate": 1e-3, "batch_size": ROWS, "seed": seed}
    if setting.startswith("mle"):
        model = BC(
            "MlpPolicy", seen(), kept, round_updates=ROUND, policy_kwargs=net | {"ortho_init": False},
            **common, **own,
        )  # fmt: skip
    else:
        model = IQLearn(
            "MlpPolicy", seen(), kept, online=False, gamma=0.99, temperature=1.0, lagging=False, policy_kwargs=net,
            train_freq=ROUND, gradient_steps=ROUND, learning_starts=0, buffer_size=1, **common, **own,
        )  # fmt: skip
    action: Any = held.action
    right = action[:, None]
    best, found = -float("inf"), {}
    for k in range(updates // ROUND):
        model.learn(ROUND * ROWS if isinstance(model, BC) else ROUND, reset_num_timesteps=k == 0, log_interval=None)
        with torch.no_grad():
            likely = logits(model, held.obs).log_softmax(-1).gather(1, right).mean()
            now = logits(model, features())
        if float(likely) > best:
            best, found["held out"] = float(likely), now
    return {"end": now, "held out": found["held out"]}


def logits(model: BC | IQLearn, obs: Any) -> Tensor:
    """What the softmax of a policy at temperature 1 is taken of, ``[B, A]``."""
    if isinstance(model, IQLearn):
        return model.q_net(obs) / model.temperature  # type: ignore[no-any-return]
    distribution = model.policy.get_distribution(obs).distribution
    assert isinstance(distribution, torch.distributions.Categorical)
    return distribution.logits


def measure(demonstrator: str, shown: int, seed: int, setting: str, updates: int) -> list[dict[str, object]]:
    """The rows of a training, one for each stop; return and coverage along the temperatures."""
    began, wanted = time.process_time(), succeeds(demonstrator)
    heat = torch.tensor(TEMPERATURES, dtype=torch.float64)[:, None, None]
    rows: list[dict[str, object]] = []
    for stop, found in learn(setting, show(demonstrator, shown, seed), seed, updates).items():
        ways = ways_taken(scene(), (found.double() / heat).softmax(-1))
        apart = (ways / ways.sum(-1, keepdim=True) - wanted / wanted.sum()).abs().sum(-1) / 2
        columns = {"returns": ways.sum(-1) / wanted.sum(), "covered": effective(ways), "apart": apart}
        key: dict[str, object] = dict(zip(KEYS, (demonstrator, shown, seed, setting, stop, updates)))
        rows.append(key | {name: " ".join(f"{v:.4f}" for v in values.tolist()) for name, values in columns.items()})
    return [row | {"cpu_s": f"{time.process_time() - began:.1f}"} for row in rows]


def numbers(row: Mapping[str, str], column: str) -> list[float]:
    """A column that holds a value for each temperature."""
    return list(map(float, row[column].split()))


def at(row: Mapping[str, str], level: float) -> float:
    """Coverage of a network at a share of the demonstrator's return."""
    return coverage_at(numbers(row, "returns"), numbers(row, "covered"), level)


def chosen(rows: Sequence[Mapping[str, str]], who: str, method: str, level: float) -> tuple[str, str]:
    """The setting and stop with the best coverage at a return, on the tuning seeds."""

    def worth(candidate: tuple[str, str]) -> float:
        mine = [r for r in rows if (r["demonstrator"], r["setting"], r["stop"]) == (who, *candidate)]
        mine = [r for r in mine if int(r["seed"]) in TUNING and int(r["shown"]) == SHOWN]
        return tables.iqm([at(r, level) for r in mine]) if mine else -1.0

    return max(((setting, stop) for setting in METHODS[method] for stop in STOPS), key=worth)


def told(values: Sequence[float], sign: str = "") -> str:
    """IQM and its interval."""
    low, high = tables.interval(values)
    return f"{tables.iqm(values):{sign}.2f} ({low:{sign}.2f} to {high:{sign}.2f})"


def of(rows: Sequence[Mapping[str, str]], who: str, shown: int, candidate: tuple[str, str]) -> list[Any]:
    """A candidate's rows on the seeds that count, by seed."""
    wanted = (who, str(shown), *candidate)
    mine = [r for r in rows if (r["demonstrator"], r["shown"], r["setting"], r["stop"]) == wanted]
    return sorted((r for r in mine if int(r["seed"]) not in TUNING), key=lambda r: int(r["seed"]))


def compared(rows: Sequence[Mapping[str, str]]) -> str:
    """Both methods as they were chosen for each return, and their difference, seed by seed."""
    lines = ["| demonstrator | shown | method | " + " | ".join(f"at {level:.0%}" for level in LEVELS) + " |"]
    lines.append("|---|---:|---|" + "---:|" * len(LEVELS))
    for who, shown in product(DEMONSTRATORS, sorted({int(r["shown"]) for r in rows})):
        best = {m: [chosen(rows, who, m, level) for level in LEVELS] for m in METHODS}
        got = {m: [[at(r, v) for r in of(rows, who, shown, c)] for v, c in zip(LEVELS, best[m])] for m in METHODS}
        if min(counts := {len(v) for m in METHODS for v in got[m]}) == 0 or len(counts) > 1:
            continue  # not whole yet
        for method, name in (("mle", "MLE"), ("iq", "IQ-Learn")):
            cells = [
                f"{told(v)}, {np.count_nonzero(v)}/{len(v)}, {words(c)}" for v, c in zip(got[method], best[method])
            ]
            lines.append(f"| {who} | {shown} | {name} | {' | '.join(cells)} |")
        pairs = [np.array([a, b]) for a, b in zip(got["iq"], got["mle"])]
        lines.append(f"| {who} | {shown} | difference | {' | '.join(told(list(a - b), '+') for a, b in pairs)} |")
        both = [(a - b)[(a > 0) & (b > 0)] for a, b in pairs]
        there = [f"{told(list(v), '+')}, {len(v)}/{len(a)}" if len(v) else "" for v, (a, _) in zip(both, pairs)]
        lines.append(f"| {who} | {shown} | where both get there | {' | '.join(there)} |")
    return "\n".join(lines) if lines[2:] else "Nothing was chosen among these."


def words(candidate: tuple[str, str]) -> str:
    """A setting and a stop in short."""
    setting, stop = candidate
    return (setting.partition(", ")[2] or "plain") + (", stopped" if stop == "held out" else "")


def whole(rows: Sequence[Mapping[str, str]]) -> str:
    """Every setting and stop."""
    lines = [
        "| demonstrator | shown | setting | stop | seeds | " + " | ".join(f"at {level:.0%}" for level in LEVELS)
        + " | return | coverage | ways' distance |", "|---|---:|---|---|---:|" + "---:|" * (len(LEVELS) + 3),
    ]  # fmt: skip
    one = TEMPERATURES.index(1.0)
    for who, shown in sorted({(r["demonstrator"], int(r["shown"])) for r in rows}):
        for setting in (name for settings in METHODS.values() for name in settings):
            for stop in STOPS:
                if not (mine := of(rows, who, shown, (setting, stop))):
                    continue
                columns = [told([at(r, level) for r in mine]) for level in LEVELS]
                plain = [tables.iqm([numbers(r, c)[one] for r in mine]) for c in ("returns", "covered", "apart")]
                lines.append(
                    f"| {who} | {shown} | {setting} | {stop} | {len(mine)} | {' | '.join(columns)} | "
                    f"{plain[0]:.0%} | {plain[1]:.2f} | {plain[2]:.2f} |"
                )
    return "\n".join(lines)


def report(rows: Sequence[Mapping[str, str]], out: Path) -> None:
    """Print and write the tables, and draw the frontiers."""
    if not any(int(r["seed"]) not in TUNING for r in rows):
        return
    own, endless = ([f"{float(effective(f(who)[None])):.2f}" for who in DEMONSTRATORS] for f in (succeeds, cloned))
    text = (
        "# Coverage at equal return, offline\n\nEffective number of ways (of 9) of episodes that succeed, at shares of "
        "the demonstrator's return;\nIQM over seeds, 95 % interval; 8/10 is how many seeds come to that return (others "
        f"count as 0). Settings and\nstops were chosen for each return on seeds {TUNING[0]} to {TUNING[-1]}, {SHOWN} "
        'shown; "stopped" is where held-out steps were\nlikeliest. The demonstrators themselves '
        f"({', '.join(DEMONSTRATORS)}) have {' and '.join(own)}; their actions in each\nstate, which MLE comes to with "
        f"endless demonstrations, {' and '.join(endless)}.\n\n{compared(rows)}\n\nAll of them; the last three columns "
        "are at temperature 1, and the distance is the total variation of\nthe ways from the demonstrator's.\n\n"
        f"{whole(rows)}\n"
    )
    (out / "table.md").write_text(text, encoding="utf-8")
    print("\n" + text)
    picture(rows, out / "frontiers.png")


def picture(rows: Sequence[Mapping[str, str]], path: Path) -> None:
    """Coverage over return: every setting thin, thick the ones chosen for 90 %.

    Dotted is the demonstrator's own coverage, dashed that of its actions in each state.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    levels = np.linspace(0.6, 1.0, 41).tolist()
    amounts = sorted({int(r["shown"]) for r in rows})
    figure, axes = plt.subplots(
        len(amounts), len(DEMONSTRATORS), figsize=(9, 3.2 * len(amounts)), sharex=True, sharey=True, squeeze=False
    )
    for (shown, who), axis in zip(product(amounts, DEMONSTRATORS), axes.flat):
        for method, name, colour in (("mle", "MLE", "#d55e00"), ("iq", "IQ-Learn", "#0072b2")):
            best = chosen(rows, who, method, 0.9)
            for candidate in product(METHODS[method], STOPS):
                if not (mine := of(rows, who, shown, candidate)):
                    continue
                found = [[at(r, level) for r in mine] for level in levels]
                thick = candidate == best
                style: dict[str, Any] = {"linewidth": 2, "label": f"{name}, {words(best)}"} if thick else {}
                axis.plot(levels, list(map(tables.iqm, found)), color=colour, **({"linewidth": 0.4} | style))
                if thick:
                    band = [tables.interval(values, resamples=500) for values in found]
                    axis.fill_between(levels, *zip(*band), color=colour, alpha=0.2, linewidth=0)
                    axis.legend(frameon=False, loc="lower left", fontsize=8)
        axis.set(title=f"{who} demonstrator, {shown} shown", ylim=(0, 9.2))
        for ways, line in ((succeeds(who), ":"), (cloned(who), "--")):
            axis.axhline(float(effective(ways[None])), color="grey", linestyle=line, linewidth=1)
    for axis in axes[-1]:
        axis.set_xlabel("share of the demonstrator's return")
    for axis in axes[:, 0]:
        axis.set_ylabel("effective number of ways")
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)
    print(f"picture: {path}")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing, then print the tables and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demonstrators", nargs="+", default=list(DEMONSTRATORS), choices=list(DEMONSTRATORS))
    parser.add_argument("--settings", nargs="+", default=[s for m in METHODS.values() for s in m])
    parser.add_argument("--shown", type=int, default=SHOWN)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--tuning", type=int, default=len(TUNING), help="how many of the seeds to choose settings on")
    parser.add_argument("--updates", type=int, default=UPDATES)
    parser.add_argument("--out", type=Path, default=tables.RESULTS / "imitation_modes")
    args = parser.parse_args(argv)
    if args.shown < 5:
        parser.error(f"--shown {args.shown}: at least 5, of which one is held out")
    torch.set_num_threads(1)
    for name, version in tables.machine().items():
        print(f"{name}: {version}")
    cells = tables.Cells(args.out / "cells.csv", KEYS)

    def of_now() -> list[dict[str, str]]:
        return [row for row in cells.rows() if row["updates"] == str(args.updates)]

    for seed in (*TUNING[: args.tuning if args.shown == SHOWN else 0], *range(args.seeds)):
        for who in args.demonstrators:
            best = dict.fromkeys(chosen(of_now(), who, *pair)[0] for pair in product(METHODS, LEVELS))
            for setting in args.settings if args.shown == SHOWN else best:
                key = dict(zip(KEYS, (who, args.shown, seed, setting, STOPS[-1], args.updates)))
                if not cells.done(key):
                    for row in measure(who, args.shown, seed, setting, args.updates):
                        if not cells.done(row):
                            cells.add(row)
                    print(f"{who}, {args.shown} shown, seed {seed}, {setting}: {row['cpu_s']} CPU s", flush=True)
    report(of_now(), args.out)


if __name__ == "__main__":
    main()
