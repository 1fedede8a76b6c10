# For type checkers; made by benchmarks/render_stubs.py from the table in __init__.py: change it there.

from .average import best_average as best_average
from .average import gain_bias as gain_bias
from .labelled import craft as craft
from .labelled import office as office
from .make import build as build
from .mdp import MDP as MDP
from .scene import Scene as Scene
from .single import TabularEnv as TabularEnv
from .soft import soft_value_iteration as soft_value_iteration
from .solve import occupancy as occupancy
from .solve import policy_evaluation as policy_evaluation
from .solve import policy_iteration as policy_iteration
from .solve import policy_return as policy_return
from .solve import regret as regret
from .solve import value_iteration as value_iteration
from .tasks import Task as Task
from .tasks import with_tasks as with_tasks
from .vector import TabularBatch as TabularBatch
from .worlds import chain as chain
from .worlds import four_rooms as four_rooms
from .worlds import grid as grid
from .worlds import line_key as line_key
from .worlds import random_mdp as random_mdp
from .worlds import room as room
