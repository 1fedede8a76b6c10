"""Episodes made by hand, and designers and trainers that follow a script."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from cairn.shaping import Stretch
from cairn.shaping.language.search import Recorded, Trial

TASK = "press the button at place 3"


def recorded(places: Sequence[Sequence[int]] = ((0, 1, 2, 3), (0, 0, 0, 0), (0, 1, 0, 1))) -> Recorded:
    """Walks over places; an episode that ends at place 3 succeeds and is paid 1."""
    rows: dict[str, list[Any]] = {k: [] for k in ("obs", "next_obs", "reward", "terminated", "start", "episode", "t")}
    for e, walk in enumerate(places):
        for t in range(len(walk) - 1):
            last = t == len(walk) - 2
            rows["obs"].append([float(walk[t])])
            rows["next_obs"].append([float(walk[t + 1])])
            rows["reward"].append(float(last and walk[-1] == 3))
            rows["terminated"].append(last and walk[-1] == 3)
            rows["start"].append(t == 0)
            rows["episode"].append(e)
            rows["t"].append(t)
    made = {k: torch.tensor(v) for k, v in rows.items()}
    now, then = made["obs"][:, 0].long(), made["next_obs"][:, 0].long()
    last = torch.cat([made["start"][1:], torch.tensor([True])])
    x = Stretch.make(
        obs=made["obs"], next_obs=made["next_obs"], reward=made["reward"], terminated=made["terminated"],
        truncated=last & ~made["terminated"], start=made["start"], action=torch.zeros(len(last), dtype=torch.int64),
        lane=made["episode"], episode=made["episode"], t=made["t"],
        facts={"place": now, "lamp": torch.stack([now * 0 - 1, now * 0 + 7], 1)},
        next_facts={"place": then, "lamp": torch.stack([torch.where(then == 3, 5, -1), then * 0 + 7], 1)},
    )  # fmt: skip
    returns = torch.zeros(len(places)).index_add(0, x.episode, x.reward)
    return Recorded(x, returns > 0, returns)


class Script:
    """A designer that gives the answers of a list, one prompt after the other."""

    def __init__(self, *rounds: Sequence[str]) -> None:
        self.rounds, self.prompts = list(rounds), list[str]()

    def propose(self, prompt: str, n: int) -> list[str]:
        self.prompts.append(prompt)
        return list(self.rounds[len(self.prompts) - 1])


class Scores:
    """Trials that train nobody: a score for each program, by a function of the reward's text of source."""

    def __init__(self, score: Callable[[str], float], episodes: Recorded | None = None) -> None:
        self.score, self.calls, self.episodes = score, list[list[str]](), episodes

    def train(self, rewards: Sequence[Any], seed: int = 0) -> list[Trial]:
        from cairn.shaping import as_reward

        sources = [next(iter(as_reward(r).sources.values())) for r in rewards]
        self.calls.append(sources)
        course = {"near": [0.1, 0.2, 0.3, 0.4], "success": [0.0, 0.1, 0.1, 0.2]}
        return [Trial(self.score(s), course, 100, 1.0, episodes=self.episodes) for s in sources]


def program(weight: float = 1.0, extra: str = "") -> str:
    return (
        "def reward(place, next_place):\n"
        f"    near = {weight} * (next_place - place)\n{extra}"
        '    return near, {"near": near}\n'
    )


def answer(text: str) -> str:
    return f"It pays for coming nearer.\n\n```python\n{text}```\n"
