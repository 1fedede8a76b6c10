# For type checkers; made by benchmarks/render_stubs.py from the table in __init__.py: change it there.

from .ask import Answer as Answer
from .ask import Giver as Giver
from .ask import LanguageError as LanguageError
from .ask import Question as Question
from .ask import image as image
from .beacons import SubgoalBonus as SubgoalBonus
from .beacons import SubgoalEnv as SubgoalEnv
from .budget import Budget as Budget
from .cache import Cache as Cache
from .calm import CALM as CALM
from .calm import decompose as decompose
from .captions import FactCaptions as FactCaptions
from .captions import GridCaptions as GridCaptions
from .client import Client as Client
from .desk import Desk as Desk
from .desk import JournalError as JournalError
from .ladder import fenced as fenced
from .ladder import read as read
from .oni import ONI as ONI
from .oracle import Oracle as Oracle
from .subgoals import AskedPlanner as AskedPlanner
from .subgoals import OraclePlanner as OraclePlanner
