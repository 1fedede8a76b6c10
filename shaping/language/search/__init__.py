"""Reward design: a language model writes reward programs, and is told what became of them."""

from ...._lazy import exports

# Public name -> the file that defines it.
__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "Candidate": "candidate",
        "Designer": "candidate",
        "Finding": "findings",
        "Found": "evolution",
        "Gate": "gate",
        "Journal": "journal",
        "JournalError": "journal",
        "Recorded": "recorded",
        "Trial": "candidate",
        "Trials": "candidate",
        "Workshop": "workshop",
        "auto_mc": "roles",
        "diagnose": "findings",
        "eureka": "evolution",
        "program_in": "reading",
        "rank_gate": "gate",
        "record": "recorded",
        "text2reward": "dialogue",
    },
)
