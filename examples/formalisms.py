"""Five small tasks that no Markov reward can express, each solved in the formalism that can."""

import argparse

from cairn.shaping.separating import SEPARATING, contradiction


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=0, help="unused: everything here is solved exactly")
    parser.parse_args()
    for make in SEPARATING:
        task = make()
        print(f"{task.name}: {(make.__doc__ or '').splitlines()[0]}")
        for name, policy in task.policies.items():
            print(f"    {name:10} {task.objective(policy):8.4f}")
        left = max(contradiction(task, discount) for discount in (0.0, 0.5, 0.9, 0.99))
        print(f"    best {task.solve():.4f}; a Markov reward of that order would need 0 > 0 (within {left:.0e})")


if __name__ == "__main__":
    main()
