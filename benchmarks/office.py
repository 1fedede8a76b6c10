"""Office world, four tasks in turn: Q-learning, CRM and HRM in tables, with and without shaping.

Toro Icarte et al., "Reward Machines: Exploiting Reward Function Structure in Reinforcement Learning" (JAIR 2022),
figure 6. Epsilon .1, gamma .9, Q from 2; both learning rates: .1, the default of the authors' functions, and .5, which
their scripts set for grid worlds. The score of an episode is its reward per step over that of the best policy with
epsilon .1 on the same map (exact here), and of a run the mean of its last 400 episodes, 1 = optimal. Medians over
seeds. Shaping is by the values of the machine's states: +V, and -V as the authors' code has it.

Why the recorded runs are not reached. They were made on another map, and no commit of the authors' repository holds
it (all were looked at, from the first, 2020-08-16, to the last, 2021-04-05, and a proposal of 2024).
``office_world.py`` has had one map throughout: b and d changed places on it and in the fourth task on 2021-04-02,
which changes no length. From its start, (2, 1), the four tasks take 15, 29, 29 and 30 steps at least. The shortest
successes among the records (of 2021-03-04, by their own time stamps) take 11, 23, 23 and 25 (CRM and HRM alike), and
it is these that the rewards per step fit by which their scores are divided: .0729, .0314, .0313 and .0281, in the
exporting script since 2020-09-04. Start and plants seem to be the published ones: the trained CRM's episodes end on a
plant most often after 2, 4, 6, 7 or 9 steps in the first task, and 4, 6, 8, 12, 14, 16, 17 or 19 in the others, which
is when the published ways pass one. So the ends of the tasks stand elsewhere, or can be reached otherwise. With one
or two of the 39 inner sides between rooms opened and the office anywhere, 37 maps give the first three lengths, and
none the fourth.

    python benchmarks/office.py [--seeds 20] [--steps 100000] [--agents ql crm hrm]

The table ``runs.csv`` keeps what is done: started again, it goes on with the next agent. ``--render`` writes
``office.md`` and ``office.png`` from the table, and runs nothing.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cairn.agents.hrm import HRM
from cairn.agents.tabular import QLearning
from cairn.agents.tabular_base import TabularAgent
from cairn.benchmarks.tables import RESULTS, Cells, machine
from cairn.envs.tabular import TabularBatch, office, value_iteration
from cairn.envs.tabular.labelled import OFFICE_PROPOSITIONS, OFFICE_TASKS
from cairn.envs.tabular.solve import epsilon_greedy, reward_per_step
from cairn.shaping import CounterfactualMachine, MachineBatch, MachinePotential, RewardMachine, Task

RATES = (0.1, 0.5)
EPSILON, GAMMA, INITIAL, KEPT, EVERY = 0.1, 0.9, 2.0, 400, 1000
# Method -> (agent, sign of the potential); the order of the table.
METHODS: dict[str, tuple[str, int]] = {
    "ql": ("ql", 0), "ql-rs (-V)": ("ql", -1), "ql-rs (+V)": ("ql", 1),
    "crm": ("crm", 0), "crm-rs (-V)": ("crm", -1), "crm-rs (+V)": ("crm", 1),
    "hrm": ("hrm", 0), "hrm-rs (-V)": ("hrm", -1), "hrm-rs (+V)": ("hrm", 1),
}  # fmt: skip
# Medians over 60 seeds that the authors' repository records (results/summary/office-*.txt), at 25k and 99k steps, on a
# map that it does not hold; the potential is -V there.
RECORDED = {
    "ql": (0.04, 0.37), "ql-rs (-V)": (0.09, 0.71), "crm": (0.46, 1.00), "crm-rs (-V)": (0.71, 1.00),
    "hrm": (0.89, 0.93), "hrm-rs (-V)": (0.06, 0.93),
}  # fmt: skip


def four_tasks() -> RewardMachine:
    """The paper's four tasks as one machine: each episode has the next one."""
    machines = [RewardMachine.of_task(task, OFFICE_PROPOSITIONS) for task in OFFICE_TASKS.values()]
    return RewardMachine.in_turn(machines, list(OFFICE_TASKS))


def optimum() -> Tensor:
    """Reward per step of the best policy with epsilon .1, for each task, float64 ``[4]``: exact."""
    best = []
    for name in OFFICE_TASKS:
        mdp = office(name).mdp
        best.append(reward_per_step(mdp, epsilon_greedy(value_iteration(mdp).policy, EPSILON), 1000))
    return torch.stack(best)


def build(kind: str, rates: Tensor, signs: Tensor, seed: int = 0) -> TabularAgent:
    """An agent with a learning rate and a sign of the potential for each lane, both float64 ``[N]``."""
    tasks = four_tasks()
    env = MachineBatch(TabularBatch(office(), len(rates)), tasks)
    common: dict[str, Any] = {"learning_rate": rates, "epsilon": EPSILON, "gamma": GAMMA, "initial": INITIAL}
    if kind == "hrm":
        return HRM(env, shaping=signs[:, None] * tasks.values(GAMMA), seed=seed, **common)
    sign = signs.float()
    shaped = Task() + MachinePotential(tasks) * (lambda x: sign[x.lane])
    experience = CounterfactualMachine(tasks) if kind == "crm" else None
    return QLearning(env, experience=experience, reward=shaped, seed=seed, **common)


def curve(episodes: dict[str, Tensor], best: Tensor, lane: int, steps: int) -> list[float]:
    """The mean score of a lane's last 400 episodes, at every 1,000 steps."""
    mine = episodes["lane"] == lane
    number, step = episodes["episode"][mine], episodes["step"][mine]
    score = episodes["reward"][mine] / episodes["length"][mine] / best[number % len(best)]
    total = torch.cat([torch.zeros(1, dtype=torch.float64), score.cumsum(0)])
    out = []
    for at in range(EVERY, steps + 1, EVERY):
        n = int(torch.searchsorted(step, at, right=True))
        first = max(0, n - KEPT)
        out.append(float((total[n] - total[first]) / (n - first)) if n else 0.0)
    return out


def run(kind: str, seeds: int, steps: int, best: Tensor, cells: Cells) -> None:
    """All seeds of an agent side by side, at both learning rates, with and without shaping."""
    lanes = [(m, a, s) for m, (k, _) in METHODS.items() if k == kind for a in RATES for s in range(seeds)]
    rates = torch.tensor([rate for _, rate, _ in lanes], dtype=torch.float64)
    signs = torch.tensor([METHODS[method][1] for method, _, _ in lanes], dtype=torch.float64)
    agent, begun = build(kind, rates, signs), time.time()
    for _ in range(0, steps, 5000):
        agent.learn(min(5000, steps - agent.steps))
        print(f"\r{kind}: {agent.steps} of {steps} steps, {time.time() - begun:.0f} s", end="", flush=True)
    print()
    episodes = agent.episodes
    for lane, (method, rate, number) in enumerate(lanes):
        row = {"method": method, "alpha": rate, "seed": number}
        if not cells.done(row):
            points = curve(episodes, best, lane, steps)
            cells.add({**row, **{str(EVERY * (i + 1)): f"{p:.4f}" for i, p in enumerate(points)}})


def quartiles(rows: list[dict[str, str]], method: str, rate: float, step: int) -> tuple[float, float, float] | None:
    """The median of the seeds and the quartiles around it; None where there are no runs."""
    found = [float(r[str(step)]) for r in rows if r["method"] == method and float(r["alpha"]) == rate]
    if not found:
        return None
    low, middle, high = np.percentile(found, [25, 50, 75])
    return float(middle), float(low), float(high)


def render(rows: list[dict[str, str]], folder: Path) -> str:
    """The table as markdown, and the curves as a picture."""
    steps = [int(k) for k in rows[0] if k.isdigit()]
    early = 25_000 if 25_000 in steps else steps[len(steps) // 4]
    last = steps[-1]
    seeds = len({r["seed"] for r in rows})
    lines = [
        f"Medians (quartiles) over {seeds} seeds; 1 is the best policy with epsilon .1 on the published map.",
        "The recorded runs are the authors', at learning rate .5 (which their scripts set over a default of .1) and on",
        "another map than the one they publish. They are not reached here, at .1 least of all.", "",
        f"| method | at {early}: recorded | alpha .1 | alpha .5 | at {last}: recorded | alpha .1 | alpha .5 |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for method in METHODS:
        cellsof = []
        for i, step in enumerate((early, last)):
            cellsof.append(f"{RECORDED[method][i]:.2f}" if method in RECORDED else "")
            for rate in RATES:
                found = quartiles(rows, method, rate, step)
                cellsof.append("" if found is None else f"{found[0]:.2f} ({found[1]:.2f}, {found[2]:.2f})")
        lines.append(f"| {method} | {' | '.join(cellsof)} |")
    _picture(rows, steps, folder / "office.png")
    return "\n".join(lines)


def _picture(rows: list[dict[str, str]], steps: list[int], path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True)
    colours = {"ql": "#d55e00", "crm": "#0072b2", "hrm": "#009e73"}
    styles = {0: "-", -1: ":", 1: "--"}
    for axis, rate in zip(axes, RATES):
        for method, (kind, sign) in METHODS.items():
            points = [quartiles(rows, method, rate, step) for step in steps]
            shown = [p for p in points if p is not None]
            if not shown:
                continue
            middle, low, high = np.array(shown).T
            axis.plot(steps, middle, styles[sign], color=colours[kind], label=method)
            axis.fill_between(steps, low, high, color=colours[kind], alpha=0.12, linewidth=0)
        axis.set(title=f"learning rate {rate}", xlabel="steps", ylim=(0, 1.08))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("reward per step, 1 = optimal")
    axes[1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=100_000, help="of each run, a multiple of 1,000")
    parser.add_argument("--agents", nargs="+", choices=["ql", "crm", "hrm"], default=["ql", "crm", "hrm"])
    parser.add_argument("--out", type=Path, default=RESULTS / "office")
    parser.add_argument("--render", action="store_true", help="write the table and the picture, and run nothing")
    args = parser.parse_args(argv)
    for name, value in machine().items():
        print(f"{name}: {value}")
    best = optimum()
    shown = ", ".join(f"{name} {value:.4f}" for name, value in zip(OFFICE_TASKS, best.tolist()))
    print(f"best reward per step with epsilon .1: {shown}")
    cells = Cells(args.out / "runs.csv", ("method", "alpha", "seed"))
    for kind in [] if args.render else args.agents:
        wanted = [(m, a, s) for m, (k, _) in METHODS.items() if k == kind for a in RATES for s in range(args.seeds)]
        if all(cells.done({"method": m, "alpha": a, "seed": s}) for m, a, s in wanted):
            print(f"{kind}: done before")
        else:
            run(kind, args.seeds, args.steps, best, cells)
    if cells.rows():
        text = render(cells.rows(), args.out)
        print(text)
        (args.out / "office.md").write_text(text + "\n")


if __name__ == "__main__":
    main()
