# For type checkers; made by benchmarks/render_stubs.py from the table in __init__.py: change it there.

from .checks import Behaviour as Behaviour
from .checks import BehaviourError as BehaviourError
from .checks import check_program as check_program
from .host import Jail as Jail
from .host import JailError as JailError
from .inputs import Input as Input
from .inputs import inputs_of as inputs_of
from .limits import Limits as Limits
from .limits import ProgramError as ProgramError
from .lower import compile_program as compile_program
from .term import Program as Program
