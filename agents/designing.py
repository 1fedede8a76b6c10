"""``cairn design``: record episodes, search for a reward program, leave a folder with the best and a report."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..shaping.language.ask import Giver, Question
from ..shaping.language.search import (
    Candidate,
    Designer,
    Found,
    JournalError,
    Workshop,
    auto_mc,
    eureka,
    record,
    text2reward,
)
from ..shaping.language.search.evolution import StartError
from ..shaping.language.search.prompts import seen_of
from ..shaping.language.search.workshop import NobodyError
from .config import ConfigError
from .design import SideBySide
from .design_config import DesignConfig, check_design, train_config
from .evaluation import fresh_seed
from .training import _batch, _build


@dataclass(frozen=True)
class Roles:
    """Who does what in a search; critic and analyser only in ``auto-mc``."""

    designer: Designer
    critic: Designer | None = None
    analyser: Designer | None = None


def design(
    config: DesignConfig, roles: Roles, say: Callable[[str], None] = print, listen: Callable[[str], str] = input
) -> tuple[Found, Path]:
    """Search for a reward program, and go on where the folder's record ends.

    Args:
        config: What to search for.
        roles: Who writes, reviews and reads.
        say: Is told each step.
        listen: Asks a person at the terminal, where ``config.ask_me`` says so.

    Returns:
        What was found, and the folder: ``report.html``, ``rewards/best.py``, ``search.jsonl`` (the record).

    Raises:
        ConfigError: The config cannot be run, the designer does not answer, or the folder holds the record of another
            search.
    """
    check_design(config)
    probe = _build(train_config(config, config.env), config.num_envs)  # settings that PPO does not take are told here
    probe.batch.close()
    folder = Path(config.run or f"runs/design-{config.env.rpartition('/')[2]}")
    trials = SideBySide(
        partial(_batch, train_config(config, config.env), config.num_envs), config.steps, agent_args=config.agent_args,
        curriculum=tuple(partial(_batch, train_config(config, env), config.num_envs) for env in config.curriculum),
        episodes=config.episodes,
    )  # fmt: skip
    env = _batch(train_config(config, config.env), config.recorded)
    try:
        recorded = record(env, seed=fresh_seed(config.seed, "recorded"))
    except ValueError as error:
        raise ConfigError(str(error)) from error
    finally:
        env.close()
    wins = int(recorded.success.sum())
    say(f"recorded {len(recorded)} episodes of random play, {wins} of them " + (
        "successes" if recorded.knows_success else "with some of the task's reward"
    ))  # fmt: skip
    if not wins:
        say("none succeeds, so the rank gate cannot judge until a trained agent does")
    shop = Workshop(
        config.env, config.task, recorded, trials, folder=folder, with_task=config.with_task, gate=config.gate,
        require="kernel" if config.require_kernel else "process", signs=config.search == "auto-mc",
        seeds=config.seeds, say=say,
    )  # fmt: skip
    apart = {"server", "model", "key_env", "run", "rounds", "task", "start", "ask_me", "final_seeds", "require_kernel"}
    settings = {key: value for key, value in asdict(config).items() if key not in apart}
    feedback = partial(_from_person, listen) if config.ask_me else None
    try:
        shop.journal.remember("settings", settings, lambda: settings)
        found = _search(config, shop, roles, feedback)
    except (JournalError, NobodyError, StartError) as error:
        raise ConfigError(str(error)) from error
    if found.best is not None:
        say(f"best: {found.best.name}, score {found.best.score:.4g}; {folder / 'rewards' / 'best.py'}")
    say(f"every candidate: {folder / 'report.html'}")
    return found, folder


def _search(config: DesignConfig, shop: Workshop, roles: Roles, feedback: Callable[[Candidate], str] | None) -> Found:
    common: dict[str, Any] = {"rounds": config.rounds, "final_seeds": config.final_seeds, "seed": config.seed}
    if config.search == "text2reward":
        return text2reward(shop, roles.designer, feedback=feedback, **common)
    if config.search == "auto-mc":
        return auto_mc(shop, roles.designer, roles.critic, roles.analyser, **common)
    start = None if config.start is None else config.start.read_text(encoding="utf-8")
    return eureka(shop, roles.designer, samples=config.samples, start=start, feedback=feedback, **common)


def _from_person(listen: Callable[[str], str], candidate: Candidate) -> str:
    try:
        return listen(f"\n{candidate.name}:\n{candidate.program}\n{seen_of(candidate)}\nWhat should change? ")
    except EOFError:
        return ""


class Asked:
    """A ``Designer`` that puts its prompts to a giver of ``shaping.language``, such as a ``Client``.

    Args:
        giver: Whoever answers; an answer that is not ok gives none.
        template: Name and version of the prompt.
        temperature: Of the sampling.
        max_tokens: Most tokens of each answer.
        say: Is told why there was no answer.
    """

    def __init__(
        self, giver: Giver, template: str, temperature: float = 1.0, max_tokens: int = 4096,
        say: Callable[[str], None] = print,
    ) -> None:  # fmt: skip
        self.giver, self.template, self.temperature = giver, template, temperature
        self.max_tokens, self.say = max_tokens, say

    def propose(self, prompt: str, n: int) -> list[str]:
        """The usable texts; where some are missing, the reason is told."""
        question = Question(
            prompt, n=n, temperature=self.temperature, template=self.template, max_tokens=self.max_tokens
        )
        answer = self.giver.ask(question)
        texts = [text for text, outcome in zip(answer.texts, answer.outcomes) if outcome == "ok"]
        if len(texts) < n:
            self.say(f"{len(texts)} of {n} answers are usable: {answer.outcome} {answer.why}".rstrip())
        return texts
