"""The commands that say what there is: ``envs``, and ``bench``, which also runs it."""

import sys
from importlib import import_module
from typing import Annotated

import gymnasium
from tyro.conf import Positional, arg

from ..agents.config import ConfigError


def envs(search: Positional[Annotated[str, arg(metavar="WORD")]] = "", /) -> int:
    """List the environments; any other Gymnasium id (CartPole-v1) can be trained on too.

    Args:
        search: Only those with this word in their id.
    """
    ids = sorted(k for k in gymnasium.registry if k.startswith("cairn/") and search.lower() in k.lower())
    if not ids:
        raise ConfigError(f"no environment has {search!r} in its id; `cairn envs` lists all of them")
    for name in ids:
        print(name)
    if sys.stdout.isatty():
        print(f"{len(ids)} environments. Try: cairn train {ids[0]}", file=sys.stderr)
    return 0


def bench(name: Positional[Annotated[str, arg(metavar="NAME")]] = "", /) -> int:
    """Run a benchmark; without a name, list them. What follows the name goes to the benchmark (try --help there).

    For instance:
      cairn bench
      cairn bench grid --num-envs 1024 --seconds 1

    Args:
        name: One of the list.
    """
    return run_benchmark([name] if name else [])


def run_benchmark(args: list[str]) -> int:
    """Run the benchmark named first with the other arguments, or list them all."""
    from ..benchmarks import BENCHMARKS

    if not args:
        for known, line in BENCHMARKS.items():
            print(f"{known:14} {line}")
        return 0
    if args[0] not in BENCHMARKS:
        raise ConfigError(f"no benchmark is called {args[0]!r}; `cairn bench` lists them")
    run = import_module(f"..benchmarks.{args[0]}", __package__).main
    from ..shaping.language.ask import LanguageError
    from ..shaping.vision.embedder import ModelError

    called, sys.argv[0] = sys.argv[0], f"cairn bench {args[0]}"  # what its usage and errors call it
    try:
        run(args[1:])
    except (LanguageError, ModelError) as error:  # no server, a wrong key, no model: the message is for a person
        raise ConfigError(str(error)) from None
    except ImportError as error:
        if "pip install" not in str(error):
            raise
        raise ConfigError(str(error)) from None  # an extra is missing
    finally:
        sys.argv[0] = called
    return 0
