"""The table of agents: what ``--agent`` accepts, where each one lives and what it is good for.

The command line, the README's test and the loader of run folders read this table and nothing else: a name
that comes out of a file is looked up here, never imported.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module
from typing import Any, NamedTuple


class Agent(NamedTuple):
    """One line of the table."""

    target: str
    """``module:Class``, relative to ``cairn.agents``."""
    summary: str
    """What it is and what it is for, in one line."""


AGENTS: dict[str, Agent] = {
    "ppo": Agent(
        "ppo:PPO", "Proximal policy optimisation on batches of environments; discrete and continuous actions."
    ),
    "dqn": Agent("dqn:DQN", "Deep Q-learning from a replay buffer that takes reward expressions; discrete actions."),
    "sac": Agent("sac:SAC", "Soft actor-critic from the same replay buffer; continuous actions."),
    "td3": Agent("td3:TD3", "Twin delayed deterministic policy gradients from the same buffer; continuous actions."),
    "bc": Agent("imitation.bc:BC", "Behaviour cloning of demonstrations; any actions, Gaussian mixtures for a Box."),
    "dagger": Agent(
        "imitation.dagger:DAgger", "Cloning of an expert that is asked where the learner comes to (DAgger)."
    ),
    "iq_learn": Agent("imitation.iq_learn:IQLearn", "Inverse soft Q-learning from demonstrations; discrete actions."),
    "demo_ppo": Agent(
        "imitation.beside:DemoPPO", "PPO beside demonstrations: cloning before or beside, learned balance."
    ),
    "gail": Agent("imitation.adversarial:GAIL", "Adversarial imitation on PPO: paid for not being told apart."),
    "airl": Agent("imitation.adversarial:AIRL", "Adversarial inverse RL on PPO: a reward of states that may transfer."),
    "adversarial_sac": Agent("imitation.adversarial:AdversarialSAC", "Off-policy adversarial imitation on SAC."),
    "adversarial_td3": Agent("imitation.adversarial:AdversarialTD3", "Off-policy adversarial imitation on TD3."),
    "iq_learn_sac": Agent("imitation.iq_learn:IQLearnSAC", "The same on SAC; continuous actions."),
    "mamql": Agent("multi.mamql:MAMQL", "Inverse Q-learning for teams, a marginal critic each; discrete actions."),
    "ippo": Agent("multi.ppo:IPPO", "PPO for teams: independent learners that share one network; any actions."),
    "mappo": Agent("multi.ppo:MAPPO", "PPO for teams with a critic that sees what all agents see; any actions."),
    "league": Agent("multi.league:League", "PPO for games of two: self-play against a league of past selves."),
    "maddpg": Agent("multi.maddpg:MADDPG", "Deterministic actors, critics that see all agents; any actions."),
    "teamreg": Agent("multi.coordination:TeamReg", "MADDPG whose agents learn to predict each other and be predicted."),
    "coachreg": Agent("multi.coordination:CoachReg", "MADDPG whose agents learn to change sub-policies together."),
}


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like ``name``, whatever the case, or None where none is alike."""
    folded = {k.lower(): k for k in known}
    near = get_close_matches(name.lower(), folded, n=1, cutoff=0.5)
    return folded[near[0]] if near else None


def nearest(name: str, known: Iterable[str]) -> str:
    """Say ``"; did you mean 'x'?"`` when a known name is like ``name``, else the empty string."""
    near = closest(name, known)
    return f"; did you mean {near!r}?" if near else ""


def agent_class(name: str) -> Any:
    """Import the class of an agent by its name in the table.

    Args:
        name: A key of ``AGENTS``, such as ``"ppo"``.

    Raises:
        ValueError: The table has no such name; the message gives the nearest one.
    """
    if name not in AGENTS:
        raise ValueError(f"no agent is called {name!r}{nearest(name, AGENTS)}; there are {', '.join(AGENTS)}")
    module, _, attribute = AGENTS[name].target.partition(":")
    return getattr(import_module(f".{module}", __package__), attribute)
