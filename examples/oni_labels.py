"""Labels from a language model as an intrinsic reward (ONI), asked for in the background while an agent trains.

With --url a real server of OpenAI's chat protocol is asked (pip install 'cairn-rl[language]'; its key is read from
OPENAI_API_KEY). Without, an oracle that is right as often as --accuracy says stands in: what is learned from labels
depends on how good they are.
"""

import argparse

import gymnasium as gym

import cairn  # noqa: F401  (registers the cairn/ ids)
from cairn.agents import PPO
from cairn.shaping import ONI, Task
from cairn.shaping.language import Client, Giver, Oracle, Question

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=float, default=4e5, help="environment steps to train for")
parser.add_argument("--accuracy", type=float, default=0.9, help="of the oracle")
parser.add_argument("--url", help="such as http://127.0.0.1:8000/v1")
parser.add_argument("--model", help="as the server calls it")
args = parser.parse_args()


def rule(question: Question) -> dict[str, str]:
    """Taking things and opening doors is a step towards the task."""
    event = question.messages[-1]["content"].split("The event: ")[1]
    return {"label": "helpful" if event.startswith(("You pick up", "You unlock", "You open a")) else "not helpful"}


giver: Giver = Oracle(rule, accuracy=args.accuracy)
if args.url:
    giver = Client(args.url, args.model, cache="labels.sqlite")
    giver.check()  # no server, a wrong key or a wrong model is told now

envs = gym.make_vec("cairn/MiniGrid-KeyCorridorS3R3-v0", num_envs=64, device="cpu")
# "classification": a small model of the labels judges what nobody has labelled yet.
model = PPO("MlpPolicy", envs, reward=Task() + 0.1 * ONI(giver, mode="classification"), seed=0)
model.learn(int(args.steps), progress_bar=True)

labels = {name: f"{value:g}" for name, value in model.recent().items()}
print(f"trained on {model.reward} for {model.num_timesteps} steps: {labels or 'no episode has ended yet'}")
envs.close()
