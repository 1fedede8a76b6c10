# For type checkers; made by benchmarks/render_stubs.py from the table in __init__.py: change it there.

from .single import CrafterEnv as CrafterEnv
from .symbols import SYMBOLS as SYMBOLS
