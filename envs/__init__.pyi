# For type checkers; made by benchmarks/render_stubs.py from the table in __init__.py: change it there.

from .batch import BatchEnv as BatchEnv
from .batch import BatchWrapper as BatchWrapper
from .batch import find_wrapper as find_wrapper
from .batch import lane_seed as lane_seed
from .bridges import as_sb3 as as_sb3
from .bridges import flat_single as flat_single
from .bridges import from_gymnasium as from_gymnasium
from .bridges import from_sb3 as from_sb3
from .bridges import from_vector as from_vector
from .bridges import make_batch as make_batch
from .check import check_batch_env as check_batch_env
from .delayed import DelayedReward as DelayedReward
from .delayed import EpisodicReward as EpisodicReward
from .single_env import minigrid_facts as minigrid_facts
from .wrappers import EpisodeStatistics as EpisodeStatistics
from .wrappers import NormalizeObservation as NormalizeObservation
from .wrappers import TimeLimit as TimeLimit
