"""Rewards as expressions of terms: potentials, bonuses, machines, gates, learned and written rewards."""

from .._lazy import exports

# Name in a text expression -> (the file and class, one line on what it does). The grammar, the README's table and the
# test of the laws read it: a new term is its file and its line here.
TERMS: dict[str, tuple[str, str]] = {
    "task": ("ops:Task", "the environment's own reward"),
    "potential": ("potential:Potential", "potential-based shaping, which leaves the best policy as it is"),
    "episodic_count": ("counts:EpisodicCount", "a bonus for states that are new or rare in their episode"),
    "gated": ("gated:Gated", "step rewards held back until the episode's outcome passes a threshold"),
    "machine_reward": ("machines:MachineReward", "the reward of a reward machine over labelled facts"),
}

# Public name -> the file that defines it.
__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "Channel": "term",
        "CounterfactualMachine": "machine_env",
        "Episode": "term",
        "EpisodicCount": "counts",
        "ExperienceMap": "term",
        "Gated": "gated",
        "LawBroken": "laws",
        "MachineEnv": "machine_env",
        "MachineReward": "machines",
        "Op": "term",
        "Potential": "potential",
        "Pure": "term",
        "Reward": "reward",
        "RewardError": "reward",
        "RewardMachine": "machines",
        "RolloutSeat": "seats",
        "ShapedReplayBuffer": "seats_replay",
        "ShapedReward": "seats_env",
        "Source": "term",
        "Stream": "term",
        "Stretch": "stretch",
        "Task": "ops",
        "Term": "term",
        "World": "term",
        "as_reward": "reward",
        "check_potential": "laws",
        "check_term": "laws",
        "linear": "schedules",
        "parse": "grammar",
    },
)
