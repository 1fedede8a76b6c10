"""Office world, four tasks in turn: Q-learning, CRM and HRM in tables, with and without shaping.

Toro Icarte et al., "Reward Machines: Exploiting Reward Function Structure in Reinforcement Learning" (JAIR 2022),
figure 6. Epsilon .1, gamma .9, Q from 2; both learning rates: .1, the default of the authors' functions, and .5, which
their scripts set for grid worlds and their recorded runs had. The score of an episode is its reward per step over that
of the best policy with epsilon .1 (exact here), and of a run the mean of its last 400 episodes, 1 = optimal. Medians
over seeds. Shaping is by the values of the machine's states: +V, and -V as the authors' code has it.

The tasks are done as the authors' code steps them, and as it writes them. All that ends an episode leads its machines
to one final state, and what is paid on the way there is looked up by the two states alone: in a task's last stage a
plant pays like the task's end. So their agents, and the figures that they record, carry mail to the office or onto the
next plant. Their published optimum (.0729, .0314, .0313, .0281 a step) is that of the tasks as run, not as written.

    python benchmarks/office.py [--seeds 20] [--steps 100000] [--agents ql crm hrm] [--tasks "as run" "as written"]
    python benchmarks/office.py --reference FOLDER [--reference-seeds 10]

The second runs the authors' own code beside it: FOLDER is a clone of https://github.com/RodrigoToroIcarte/reward_machines
at 3116c2fb6db130a3865332afa760f6ab3c3575d8 (see ``office_reference.py``). ``runs.csv`` and ``reference.csv`` keep what
is done: started again, it goes on with the next. ``--render`` writes ``office.md`` and ``office.png`` from the tables,
and runs nothing.
"""

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cairn.agents.hrm import HRM
from cairn.agents.tabular import QLearning
from cairn.agents.tabular_base import TabularAgent
from cairn.benchmarks import office_reference
from cairn.benchmarks.tables import RESULTS, Cells, machine
from cairn.envs.tabular import TabularBatch, office, value_iteration
from cairn.envs.tabular.labelled import OFFICE_PROPOSITIONS, OFFICE_TASKS, OFFICE_TASKS_AS_RUN
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
# The four tasks with what a plant pays in the last stage: 1, or nothing.
TASKS = {"as run": OFFICE_TASKS_AS_RUN, "as written": OFFICE_TASKS}
# Medians over 60 seeds that the authors' repository records (results/summary/office-*.txt), at 25k and 99k steps, of
# the tasks as run, at learning rate .5; the potential is -V.
RECORDED = {
    "ql": (0.04, 0.37), "ql-rs (-V)": (0.09, 0.71), "crm": (0.46, 1.00), "crm-rs (-V)": (0.71, 1.00),
    "hrm": (0.89, 0.93), "hrm-rs (-V)": (0.06, 0.93),
}  # fmt: skip
KEY = ("tasks", "method", "alpha", "seed")


def four_tasks(tasks: str) -> RewardMachine:
    """The paper's four tasks as one machine: each episode has the next one."""
    machines = [RewardMachine.of_task(task, OFFICE_PROPOSITIONS) for task in TASKS[tasks].values()]
    return RewardMachine.in_turn(machines, list(TASKS[tasks]))


def optimum(tasks: str) -> Tensor:
    """Reward per step of the best policy with epsilon .1, for each task, float64 ``[4]``: exact."""
    best = []
    for name in OFFICE_TASKS:
        mdp = office(name, as_run=tasks == "as run").mdp
        best.append(reward_per_step(mdp, epsilon_greedy(value_iteration(mdp).policy, EPSILON), 1000))
    return torch.stack(best)


def build(kind: str, tasks: str, rates: Tensor, signs: Tensor, seed: int = 0) -> TabularAgent:
    """An agent with a learning rate and a sign of the potential for each lane, both float64 ``[N]``."""
    machines = four_tasks(tasks)
    env = MachineBatch(TabularBatch(office(), len(rates)), machines)
    common: dict[str, Any] = {"learning_rate": rates, "epsilon": EPSILON, "gamma": GAMMA, "initial": INITIAL}
    if kind == "hrm":
        return HRM(env, shaping=signs[:, None] * machines.values(GAMMA), seed=seed, **common)
    sign = signs.float()
    shaped = Task() + MachinePotential(machines) * (lambda x: sign[x.lane])
    experience = CounterfactualMachine(machines) if kind == "crm" else None
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


def row(key: dict[str, object], points: list[float]) -> dict[str, object]:
    """A run's line of the table."""
    return {**key, **{str(EVERY * (i + 1)): f"{p:.4f}" for i, p in enumerate(points)}}


def run(kind: str, tasks: str, seeds: int, steps: int, cells: Cells) -> None:
    """All seeds of an agent side by side, at both learning rates, with and without shaping."""
    lanes = [(m, a, s) for m, (k, _) in METHODS.items() if k == kind for a in RATES for s in range(seeds)]
    keys: list[dict[str, object]] = [dict(zip(KEY, (tasks, *lane))) for lane in lanes]
    if all(cells.done(key) for key in keys):
        print(f"{kind}, {tasks}: done before")
        return
    rates = torch.tensor([rate for _, rate, _ in lanes], dtype=torch.float64)
    signs = torch.tensor([METHODS[method][1] for method, _, _ in lanes], dtype=torch.float64)
    agent, begun, best = build(kind, tasks, rates, signs), time.time(), optimum(tasks)
    for _ in range(0, steps, 5000):
        agent.learn(min(5000, steps - agent.steps))
        print(f"\r{kind}, {tasks}: {agent.steps} of {steps} steps, {time.time() - begun:.0f} s", end="", flush=True)
    print()
    episodes = agent.episodes
    for lane, key in enumerate(keys):
        if not cells.done(key):
            cells.add(row(key, curve(episodes, best, lane, steps)))


def run_reference(folder: Path, seeds: int, steps: int, kinds: Sequence[str], cells: Cells) -> None:
    """The authors' own code, one run at a time, scored by the same formula."""
    office_reference.check(folder)
    best = optimum("as run")
    theirs = ", ".join(f"{value:.4f}" for value in office_reference.optimum(folder, 20_000))
    print(f"their best reward per step with epsilon .1, simulated over 20,000 episodes: {theirs}")
    for seed in range(seeds):
        for method, (kind, sign) in METHODS.items():
            for rate in RATES if sign < 1 and kind in kinds else ():
                key: dict[str, object] = dict(zip(KEY, ("as run", method, rate, seed)))
                if cells.done(key):
                    continue
                begun = time.time()
                options = [f"--alg={'hrm' if kind == 'hrm' else 'qlearning'}", "--env=Office-v0"]
                options += [f"--num_timesteps={steps}", f"--gamma={GAMMA}", f"--epsilon={EPSILON}", f"--lr={rate}"]
                options += [f"--q_init={INITIAL}"]
                options += ["--use_crm"] * (kind == "crm") + ["--use_rs"] * (sign < 0)
                options += [f"--hrm_lr={rate}"] * (kind == "hrm")
                reward, length = torch.tensor(office_reference.episodes(folder, seed, options)).double().T
                number = torch.arange(len(length))
                found = {
                    "lane": torch.zeros_like(number), "episode": number, "step": length.cumsum(0).long(),
                    "reward": reward, "length": length.long(),
                }  # fmt: skip
                cells.add(row(key, curve(found, best, 0, steps)))
                print(f"authors' {method}, rate {rate}, seed {seed}: {time.time() - begun:.0f} s", flush=True)


Rows = list[dict[str, str]]


def quartiles(rows: Rows, tasks: str, method: str, rate: float, step: int) -> tuple[float, float, float] | None:
    """The median of the seeds and the quartiles around it; None where there are no runs."""
    mine = [r for r in rows if r["tasks"] == tasks and r["method"] == method and float(r["alpha"]) == rate]
    if not mine:
        return None
    low, middle, high = np.percentile([float(r[str(step)]) for r in mine], [25, 50, 75])
    return float(middle), float(low), float(high)


def render(rows: Rows, reference: Rows, folder: Path) -> str:
    """The tables as markdown, and the curves as a picture."""
    steps = [int(k) for k in rows[0] if k.isdigit()]
    points = (25_000 if 25_000 in steps else steps[len(steps) // 4], steps[-1])
    seeds = len({r["seed"] for r in rows})
    counts = Counter((r["method"], r["alpha"]) for r in reference).values() or [0]
    theirs = f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else str(max(counts))
    lines = [
        f"Office world's four tasks in turn: medians (quartiles) over {seeds} seeds of ours and {theirs} of the",
        "authors' code run here, scored alike; 1 is the best policy with epsilon .1. Recorded: the authors' medians",
        "over 60 runs, at learning rate .5.",
    ]
    for i, step in enumerate(points):
        lines += ["", f"Tasks as run (in a task's last stage a plant pays too), at {step} steps:", ""]
        lines += ["| method | recorded, .5 | authors' code, .5 | ours, .5 | authors' code, .1 | ours, .1 |"]
        lines += ["|---|---|---|---|---|---|"]
        for method in METHODS:
            shown = [f"{RECORDED[method][i]:.2f}" if method in RECORDED else ""]
            for rate in reversed(RATES):
                shown += [_text(quartiles(some, "as run", method, rate, step)) for some in (reference, rows)]
            lines.append(f"| {method} | {' | '.join(shown)} |")
    lines += ["", *_apart(rows, reference, points)]
    early, last = points
    lines += ["", f"Tasks as written (a plant never pays), at {early} and {last} steps, ours:", ""]
    lines += [f"| method | {early}, .5 | {last}, .5 | {early}, .1 | {last}, .1 |", "|---|---|---|---|---|"]
    for method in METHODS:
        of = [(rate, step) for rate in reversed(RATES) for step in points]
        shown = [_text(quartiles(rows, "as written", method, rate, step)) for rate, step in of]
        lines.append(f"| {method} | {' | '.join(shown)} |")
    _picture(rows, reference, steps, folder / "office.png")
    return "\n".join(lines)


def _text(found: tuple[float, float, float] | None) -> str:
    return "" if found is None else f"{found[0]:.2f} ({found[1]:.2f}, {found[2]:.2f})"


def _apart(rows: Rows, reference: Rows, points: tuple[int, int]) -> list[str]:
    """How far medians are apart at most: ours from the authors' code, and from what they record."""
    code, recorded = [], []
    for method in RECORDED:
        for i, step in enumerate(points):
            for rate in RATES:
                mine = quartiles(rows, "as run", method, rate, step)
                other = quartiles(reference, "as run", method, rate, step)
                where = f"{method} at {step} steps, rate {rate}"
                if mine and other:
                    code.append((abs(mine[0] - other[0]), where))
                if mine and rate == 0.5:
                    recorded.append((abs(mine[0] - RECORDED[method][i]), where))
    out = [("the authors' code run here", code), ("the recorded ones", recorded)]
    return [f"- Our medians are within {max(f)[0]:.3f} of {name} ({max(f)[1]})." for name, f in out if f]


def _picture(rows: Rows, reference: Rows, steps: list[int], path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(15, 4.4), sharey=True)
    colours = {"ql": "#d55e00", "crm": "#0072b2", "hrm": "#009e73"}
    styles = {0: "-", -1: ":", 1: "--"}
    for axis, (tasks, rate) in zip(axes, (("as run", 0.5), ("as run", 0.1), ("as written", 0.5))):
        for method, (kind, sign) in METHODS.items():
            found = [quartiles(rows, tasks, method, rate, step) for step in steps]
            shown = [p for p in found if p is not None]
            if shown:
                middle, low, high = np.array(shown).T
                axis.plot(steps, middle, styles[sign], color=colours[kind], label=method)
                axis.fill_between(steps, low, high, color=colours[kind], alpha=0.12, linewidth=0)
            some = steps[4::5]
            points = [p for p in (quartiles(reference, tasks, method, rate, step) for step in some) if p is not None]
            if points:
                face = colours[kind] if sign == 0 else "white"
                marks = {"color": colours[kind], "markerfacecolor": face, "markersize": 4.5, "linestyle": "none"}
                label = f"{method}, authors' code"
                axis.plot(some, [p[0] for p in points], marker="o", label=label, **marks)
        axis.set(title=f"tasks {tasks}, learning rate {rate}", xlabel="steps", ylim=(0, 1.08))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("reward per step, 1 = optimal")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.tight_layout(rect=(0, 0, 0.86, 1))
    figure.legend(handles, labels, fontsize=8, loc="center left", bbox_to_anchor=(0.865, 0.5))
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=100_000, help="of each run, a multiple of 1,000")
    parser.add_argument("--agents", nargs="+", choices=["ql", "crm", "hrm"], default=["ql", "crm", "hrm"])
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--reference", type=Path, metavar="FOLDER", help="a clone of the authors' code, to run instead")
    parser.add_argument("--reference-seeds", type=int, default=10)
    parser.add_argument("--out", type=Path, default=RESULTS / "office")
    parser.add_argument("--render", action="store_true", help="write the tables and the picture, and run nothing")
    args = parser.parse_args(argv)
    for name, value in machine().items():
        print(f"{name}: {value}")
    for tasks in TASKS:
        shown = ", ".join(f"{name} {value:.4f}" for name, value in zip(OFFICE_TASKS, optimum(tasks).tolist()))
        print(f"best reward per step with epsilon .1, tasks {tasks}: {shown}")
    cells, reference = Cells(args.out / "runs.csv", KEY), Cells(args.out / "reference.csv", KEY)
    if args.reference is not None and not args.render:
        run_reference(args.reference, args.reference_seeds, args.steps, args.agents, reference)
    elif not args.render:
        for tasks in args.tasks:
            for kind in args.agents:
                run(kind, tasks, args.seeds, args.steps, cells)
    if cells.rows():
        text = render(cells.rows(), reference.rows(), args.out)
        print(text)
        (args.out / "office.md").write_text(text + "\n")


if __name__ == "__main__":
    main()
