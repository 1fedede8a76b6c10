"""Rewards as expressions of terms: potentials, bonuses, machines, gates, learned and written rewards."""

from .._lazy import exports

# Name in a text expression -> (the file and class, one line on what it does). The grammar, the README's table and the
# test of the laws read it: a new term is its file and its line here.
TERMS: dict[str, tuple[str, str]] = {
    "task": ("ops:Task", "the environment's own reward"),
    "potential": ("potential:Potential", "potential-based shaping, which leaves the best policy as it is"),
    "episodic_count": ("counts:EpisodicCount", "a bonus for states that are new or rare in their episode"),
    "rnd": ("rnd:RND", "a bonus for what a network cannot predict yet, in a channel of its own"),
    "novelty_gain": ("noveld:NoveltyGain", "a bonus for stepping from what is known into what is new"),
    "noveld": ("noveld:NovelD", "the novelty gain, once an episode for each state"),
    "e3b": ("e3b:E3B", "a bonus for states outside the ellipse of their episode, by features of what actions do"),
    "gated": ("gated:Gated", "step rewards held back until the episode's outcome passes a threshold"),
    "min_form": ("min_form:MinForm", "step rewards whose sum over the episode is the (soft) minimum of them"),
    "clipped": ("delta:Clipped", "min(r - eta, 0): no number of steps earns anything"),
    "delta": ("delta:Delta", "r_t - gamma r_(t+1): the return from each step is that step's reward alone"),
    "machine_reward": ("machines:MachineReward", "the reward of a reward machine over labelled facts"),
}

# Public name -> the file that defines it.
__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "Channel": "term",
        "Clipped": "delta",
        "CounterfactualMachine": "machine_env",
        "Delta": "delta",
        "E3B": "e3b",
        "Episode": "term",
        "EpisodicCount": "counts",
        "ExperienceMap": "term",
        "Gated": "gated",
        "LawBroken": "laws",
        "MachineEnv": "machine_env",
        "MachineReward": "machines",
        "MinForm": "min_form",
        "NovelD": "noveld",
        "NoveltyGain": "noveld",
        "Op": "term",
        "Potential": "potential",
        "Pure": "term",
        "RND": "rnd",
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
