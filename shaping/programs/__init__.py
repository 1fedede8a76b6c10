"""Rewards that a language model wrote: a closed language, its compiler, and a jail to run it in.

There is no known escape, and there are two independent layers: the language has no word for anything but numbers, and
the process that runs it may do nothing but compute (``sandbox.describe()`` says what of that this machine gives).
"""

from ..._lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "Behaviour": "checks",
        "BehaviourError": "checks",
        "Input": "inputs",
        "Jail": "host",
        "JailError": "host",
        "Limits": "limits",
        "Program": "term",
        "ProgramError": "limits",
        "check_program": "checks",
        "compile_program": "lower",
        "inputs_of": "inputs",
    },
)
