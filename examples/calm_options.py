"""A task split into options by a language model, and its verdicts on events as an auxiliary reward (CALM).

With --url a real server of OpenAI's chat protocol splits the task and judges (pip install 'cairn-rl[language]');
without, an oracle that is right as often as --accuracy says stands in.
"""

import argparse

import gymnasium as gym

import cairn  # noqa: F401  (registers the cairn/ ids)
from cairn.agents import PPO
from cairn.shaping import CALM, Task
from cairn.shaping.language import Client, Giver, Oracle, Question, decompose

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=float, default=2e5, help="environment steps to train for")
parser.add_argument("--accuracy", type=float, default=0.9, help="of the oracle's verdicts")
parser.add_argument("--url", help="such as http://127.0.0.1:8000/v1")
parser.add_argument("--model", help="as the server calls it")
args = parser.parse_args()

GOALS = ["You pick up the key.", "You unlock the door.", "You reach the goal."]


def rule(question: Question) -> object:
    """Each subgoal begins as the captions of the events that reach it do."""
    text = question.messages[0]["content"]
    if "subgoal: " not in text:
        return GOALS
    goal, event = text.split("subgoal: ")[1].split("\nThe event: ")
    return {"reached": "yes" if event.startswith(" ".join(goal.split()[:2])) else "no"}


giver: Giver = Client(args.url, args.model) if args.url else Oracle(rule, accuracy=args.accuracy)
goals = decompose(giver, "use the key to open the door and then get to the goal")
envs = gym.make_vec("cairn/MiniGrid-DoorKey-8x8-v0", num_envs=64, device="cpu")
model = PPO("MlpPolicy", envs, reward=Task() + CALM(goals, giver, bonus=0.1), seed=0)
model.learn(int(args.steps), progress_bar=True)

print(f"options: {', '.join(goals)}; last episodes: {model.recent() or 'none has ended yet'}")
envs.close()
