"""From sequential reasoning traces to interleaved plans and executions (PAPER, Data curation).

Each stage is a pure function over frozen records: read, check the answer, extract steps, find dependencies, pack into
stages, filter, write in the tag dialect, split. ``curate`` runs them over a source, and goes on where it was stopped.
"""

from .by_llm import LLMExtractor
from .extractor import Extractor
from .filtering import Criteria
from .records import Rejection, Sample, Trace
from .reformatting import Style
from .report import Report
from .rules.by_rules import RuleExtractor
from .runner import Progress, Settings, curate
from .sources import Columns, Reading, from_dataset, from_jsonl, from_rows

__all__ = [
    "Columns",
    "Criteria",
    "Extractor",
    "LLMExtractor",
    "Progress",
    "Reading",
    "Rejection",
    "Report",
    "RuleExtractor",
    "Sample",
    "Settings",
    "Style",
    "Trace",
    "curate",
    "from_dataset",
    "from_jsonl",
    "from_rows",
]
