"""Weights to begin with: each bonus beside the task's own reward, by the name of its term.

They were found by small trials of PPO on MiniGrid, where the task pays at most 1 at the end; ``benchmarks/bonuses.py``
says how far each comes with its weight. All bonuses but the counts are scaled to about 1 in the mean square, so the
weights carry over to other tasks whose reward is of that size. Too much is worse than too little: an agent that is paid
for wandering wanders.
"""

BONUSES: dict[str, str] = {
    "none": "task",
    "count": "task + 0.001*count",
    "episodic_count": 'task + 0.002*episodic_count(mode="first")',
    "rnd": "task + 0.01*rnd",
    "noveld": "task + 0.01*noveld",
    "icm": "task + 0.001*icm",
    "ride": "task + 0.002*ride",
    "pseudo_counts": "task + 0.001*pseudo_counts",
    "ngu": "task + 0.001*ngu",
    "e3b": "task + 0.002*e3b",
    "re3": "task + 0.001*re3",
    "disagreement": "task + 0.001*disagreement",
    "rep_exp": "task + 0.001*rep_exp",
}
