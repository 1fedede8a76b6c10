"""Language models that label, advise and design: the client, what is asked of it, and when answers are taken."""

from ..._lazy import exports

# Public name -> the file that defines it.
__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "Answer": "ask",
        "AskedPlanner": "subgoals",
        "Budget": "budget",
        "CALM": "calm",
        "Cache": "cache",
        "Client": "client",
        "Desk": "desk",
        "FactCaptions": "captions",
        "Giver": "ask",
        "GridCaptions": "captions",
        "JournalError": "desk",
        "LanguageError": "ask",
        "ONI": "oni",
        "Oracle": "oracle",
        "OraclePlanner": "subgoals",
        "Question": "ask",
        "SubgoalBonus": "beacons",
        "SubgoalEnv": "beacons",
        "decompose": "calm",
        "fenced": "ladder",
        "image": "ask",
        "read": "ladder",
    },
)
