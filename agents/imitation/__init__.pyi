# For type checkers; made by benchmarks/render_stubs.py from the table in __init__.py: change it there.

from .adversarial import AIRL as AIRL
from .adversarial import GAIL as GAIL
from .adversarial import AdversarialSAC as AdversarialSAC
from .adversarial import AdversarialTD3 as AdversarialTD3
from .bc import BC as BC
from .beside import DemoPPO as DemoPPO
from .dagger import DAgger as DAgger
from .iq_learn import InverseReward as InverseReward
from .iq_learn import IQLearn as IQLearn
from .iq_learn import IQLearnSAC as IQLearnSAC
from .mce import TableReward as TableReward
from .mce import empirical_occupancy as empirical_occupancy
from .mce import feature_table as feature_table
from .mce import mce_irl as mce_irl
from .mixture import MixturePolicy as MixturePolicy
