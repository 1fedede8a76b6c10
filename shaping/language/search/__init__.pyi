# For type checkers; made by benchmarks/render_stubs.py from the table in __init__.py: change it there.

from .candidate import Candidate as Candidate
from .candidate import Designer as Designer
from .candidate import Trial as Trial
from .candidate import Trials as Trials
from .dialogue import text2reward as text2reward
from .evolution import Found as Found
from .evolution import eureka as eureka
from .findings import Finding as Finding
from .findings import diagnose as diagnose
from .gate import Gate as Gate
from .gate import rank_gate as rank_gate
from .journal import Journal as Journal
from .journal import JournalError as JournalError
from .reading import program_in as program_in
from .recorded import Recorded as Recorded
from .recorded import record as record
from .roles import auto_mc as auto_mc
from .workshop import Workshop as Workshop
