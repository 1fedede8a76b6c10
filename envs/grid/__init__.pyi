# For type checkers; made by benchmarks/render_stubs.py from the table in __init__.py: change it there.

from .engine import GridBatch as GridBatch
from .levels import Levels as Levels
from .levels import upstream as upstream
from .views import GridView as GridView
