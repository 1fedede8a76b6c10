# For type checkers; made by benchmarks/render_stubs.py from the table in __init__.py: change it there.

from .arm import ArmBatch as ArmBatch
from .base import AreaBatch as AreaBatch
from .curling import CurlingBatch as CurlingBatch
from .maze import HardMazeBatch as HardMazeBatch
from .repertoire import RepertoireBatch as RepertoireBatch
from .single import AreaEnv as AreaEnv
