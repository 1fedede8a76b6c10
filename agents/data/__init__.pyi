# For type checkers; made by benchmarks/render_stubs.py from the table in __init__.py: change it there.

from .babyai import babyai_bot as babyai_bot
from .collecting import collect as collect
from .collecting import collect_single as collect_single
from .collecting import from_sb3 as from_sb3
from .collecting import solver as solver
from .convert import from_episodes as from_episodes
from .convert import from_imitation as from_imitation
from .demonstrations import Demonstrations as Demonstrations
from .minari_files import from_minari as from_minari
from .minari_files import register_mission_space as register_mission_space
from .minari_files import to_minari as to_minari
