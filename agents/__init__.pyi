# For type checkers; made by benchmarks/render_stubs.py from the table in __init__.py: change it there.

from .base import BatchAlgorithm as BatchAlgorithm
from .dqn import DQN as DQN
from .policies import ActorCriticPolicy as ActorCriticPolicy
from .ppo import PPO as PPO
from .q_policies import DQNPolicy as DQNPolicy
from .q_policies import SACPolicy as SACPolicy
from .q_policies import TD3Policy as TD3Policy
from .replay import ReplayBuffer as ReplayBuffer
from .sac import SAC as SAC
from .td3 import TD3 as TD3
