"""Write the README's tables from the suite's own: ``python benchmarks/render_readme.py`` (``--check`` only compares).

Each table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``, in the README or in the page of all results;
tests/test_readme.py holds both to it.
"""

import argparse
import inspect
import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from statistics import median

from cairn.agents.table import AGENTS
from cairn.benchmarks import beacons, behaviours, dials, imitation, memory, nethack, ppo_bf16, qd_sparse, solve
from cairn.benchmarks.tables import RESULTS, Cells
from cairn.envs.multi.ids import BRIDGED_IDS
from cairn.envs.physics.ids import AREA_TASKS, DESCRIPTOR_TASKS, POSE_TASKS
from cairn.envs.registry import TABLE
from cairn.envs.tuned import TUNED
from cairn.qd import ALGORITHMS
from cairn.shaping import TERMS

PAGES = (Path(__file__).resolve().parents[1] / "README.md", RESULTS / "README.md")


def environments() -> str:
    """One row for each group of ids: how many, how a batch is stepped, and which they are."""
    from cairn.envs.grid.engine import plan_of

    lines = ["| family | ids | a batch runs on | what | which |", "|---|---|---|---|---|"]
    groups: dict[tuple[str, str, str], list[str]] = {}
    for name, entry, _, kwargs, _ in TABLE:
        room, family = entry.split(":")[0].split(".")[2], name.split("/")[1].split("-")[0]
        if room == "grid" and plan_of(kwargs["upstream"])[2] is not None:
            row = (family, "the grid engine (Warp)", "upstream's worlds, draw for draw")
        elif room == "grid":
            row = (family, "the bridge", "upstream's own class")
        elif room == "physics" and "Maze" in name:
            row = (
                "MuJoCo, mazes",
                "MuJoCo on CPU threads, MuJoCo Warp",
                "gymnasium-robotics' mazes, bit for bit; with one goal",
            )
        elif room == "physics" and family in {t.split("-")[0] for t, _ in DESCRIPTOR_TASKS + AREA_TASKS}:
            row = (
                "MuJoCo, descriptors",
                "MuJoCo on CPU threads, MuJoCo Warp",
                "QDax's Omni and Uni tasks; deceptive traps; an ant maze with reward areas",
            )
        elif room == "physics" and family in {task.split("-")[0] for task, _ in POSE_TASKS}:
            row = (
                "MuJoCo, poses",
                "MuJoCo on CPU threads, MuJoCo Warp",
                "a pose whose score is known, to judge vision rewards",
            )
        elif room == "physics" and "Sparse" in name:
            row = ("MuJoCo, sparse", "MuJoCo on CPU threads, MuJoCo Warp", "reward only past a distance or at a goal")
        elif room == "physics":
            row = ("MuJoCo", "MuJoCo on CPU threads, MuJoCo Warp", "Gymnasium's v5 tasks, bit for bit")
        elif room == "areas":
            row = ("Reward areas", "torch", "an outcome in the plane, paid in a few areas: for quality-diversity")
        elif name in {row[0] for row in BRIDGED_IDS}:
            row = ("Many agents, bridged", "the bridge", "highway-env's intersection (extra `bench`)")
        elif room == "crafter":
            row = ("Crafter", "the bridge", "Hafner's open world, upstream's own code (extra `crafter`)")
        elif room == "multi":
            row = (
                "Many agents",
                "tensors in torch",
                "cooperative navigation, Gems, the Overcooked kitchen, games of two",
            )
        else:
            row = ("Tabular", "tables in torch", "finite worlds with exact solutions")
        groups.setdefault(row, []).append(name)
    for (family, engine, what), names in groups.items():
        kinds = sorted({"-".join(name.split("/")[1].split("-")[:2]) for name in names})
        shown = names if len(names) <= 20 else [f"cairn/{kind}*" for kind in kinds]
        listed = ", ".join(f"`{name}`" for name in (shown if len(shown) <= 30 else shown[:6]))
        more = "" if len(shown) <= 30 else f" and {len(names) - 6} more (`cairn envs`)"
        lines.append(f"| {family} | {len(names)} | {engine} | {what} | {listed}{more} |")
    return "\n".join(lines)


def terms() -> str:
    """One row for each term: its name in text, its class, its kind, and what it does."""
    lines = ["| in text | class | kind | what it is |", "|---|---|---|---|"]
    for name, (target, summary) in TERMS.items():
        file, _, cls = target.partition(":")
        made = getattr(import_module(f"cairn.shaping.{file}"), cls)
        kind = (made.examples() or [made()])[0].kind  # an Op's kind follows from its inputs
        lines.append(f"| `{name}` | `{cls}` | {kind} | {summary} |")
    return "\n".join(lines)


def agents() -> str:
    """One row for each agent."""
    lines = ["| name | class | what it is |", "|---|---|---|"]
    for name, agent in AGENTS.items():
        module, _, cls = agent.target.partition(":")
        assert inspect.isclass(getattr(import_module(f"cairn.agents.{module}"), cls))
        lines.append(f"| `{name}` | `cairn.agents.{cls}` | {agent.summary} |")
    return "\n".join(lines)


def searches() -> str:
    """One row for each search of ``cairn qd``."""
    lines = ["| name | what it is |", "|---|---|"]
    for name, search in ALGORITHMS.items():
        module, _, function = search.target.partition(":")
        assert callable(getattr(import_module(f"cairn.qd.{module}"), function))
        lines.append(f"| `{name}` | {search.summary} |")
    return "\n".join(lines)


def tuned() -> str:
    """One row for each line of the tuned settings."""
    lines = ["| environment | version | agent and reward | settings | to expect |", "|---|---|---|---|---|"]
    for pattern, line in TUNED.items():
        settings = ", ".join(f"{name}={value}" for name, value in line.agent_args.items())
        lines.append(
            f"| `{pattern}` | {line.version} | {line.agent}: `{line.reward}` | num_envs={line.num_envs}, "
            f"steps={line.steps}, {settings} | {line.expected} |"
        )
    return "\n".join(lines)


def grid() -> str:
    """One row for each measured cell of a thousand environments and more: ours, and how many times each peer's."""
    rows = Cells(RESULTS / "grid" / "cells.csv", ["device", "cut", "id", "num_envs", "by"]).rows()
    peers = ("envpool", "navix", "xminigrid")
    lines = [
        "| task | environments | episodes | million steps/s | EnvPool | NAVIX | XLand-MiniGrid |",
        "|---|---|---|---|---|---|---|",
    ]
    for mine in rows:
        if mine["by"] != "cairn" or int(mine["num_envs"]) < 1000:
            continue
        rate, same = float(mine["steps_per_second"]), [r for r in rows if is_beside(r, mine)]
        found = {row["by"]: f"{rate / float(row['steps_per_second']):.0f}x" for row in same}
        length = "cut at 20 steps" if mine["cut"] == "20" else "whole"
        cells = [mine["id"], f"{int(mine['num_envs']):,}", length, f"{rate / 1e6:.1f}"]
        lines.append(f"| {' | '.join(cells + [found.get(peer, '') for peer in peers])} |")
    return "\n".join(lines)


def physics() -> str:
    """One row for each task: ours, and how many times each peer's, with the least and greatest of the rounds."""
    lines = [
        "| task | thousand steps/s | MuJoCo's bare rollout | EnvPool | SyncVectorEnv | AsyncVectorEnv |",
        "|---" * 6 + "|",
    ]
    rows = Cells(RESULTS / "physics" / "cells.csv", ["task", "peer"]).rows()
    for task in dict.fromkeys(row["task"] for row in rows):
        mine = {row["peer"]: row for row in rows if row["task"] == task}
        shown = []
        for peer in ("rollout", "envpool", "sync", "async"):
            ratio, low, high = (float(mine[peer][name]) for name in ("ratio", "ratio_low", "ratio_high"))
            shown.append(f"{ratio:.2f}x ({low:.2f} to {high:.2f})")
        rate = median(float(row["cairn_steps_per_second"]) for row in mine.values())
        lines.append(f"| {task} | {rate / 1e3:.1f} | {' | '.join(shown)} |")
    return "\n".join(lines)


def quality_diversity() -> str:
    """One row for each world, batch and peer of whole evaluations per second."""
    lines = ["| world | genomes at once | peer | its evaluations/s | ours | ratio |", "|---|---|---|---|---|---|"]
    for name in ("qd_speed", "qd_jax"):
        for row in Cells(RESULTS / name / "cells.csv", ["world", "genomes"]).rows():
            rates = " | ".join(f"{int(row[key]):,}" for key in ("peer/s", "cairn/s"))
            ratio = float(row["ratio"])
            lines.append(f"| {row['world']} | {int(row['genomes']):,} | {row['peer']} | {rates} | {ratio:.1f}x |")
    return "\n".join(lines)


def is_beside(row: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether two cells differ in who was measured alone."""
    return all(row[key] == other[key] for key in ("device", "cut", "id", "num_envs"))


def render(text: str) -> str:
    """A page with each table made anew.

    Raises:
        ValueError: The page names a table that there is none of.
    """
    makers = {
        "environments": environments,
        "terms": terms,
        "agents": agents,
        "searches": searches,
        "grid": grid,
        "physics": physics,
        "quality_diversity": quality_diversity,
        "memory": memory.short_table,
        "solve": solve.short_table,
        "demos": imitation.short_table,
        "sparse": qd_sparse.short_table,
        "tuned": tuned,
        "dials": dials.short_table,
        "beacons": beacons.short_table,
        "behaviours": behaviours.short_table,
        "nethack": nethack.short_table,
        "bf16": ppo_bf16.short_table,
    }

    def fill(match: re.Match[str]) -> str:
        if match[1] not in makers:
            raise ValueError(f"a page has a table {match[1]!r}; there are {', '.join(makers)}")
        return f"<!-- table: {match[1]} -->\n{makers[match[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- table: (\w+) -->\n.*?<!-- end -->", fill, text, flags=re.DOTALL)


def main() -> None:
    """Write the pages, or complain where one is out of date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail where a page is out of date")
    args = parser.parse_args()
    for page in PAGES:
        before = page.read_text()
        after = render(before)
        if args.check and before != after:
            raise SystemExit(f"{page} is out of date: run python benchmarks/render_readme.py")
        page.write_text(after)


if __name__ == "__main__":
    main()
