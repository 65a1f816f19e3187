"""From sequential reasoning traces to interleaved plans and executions (arXiv 2506.05745, section 3.2).

Each stage is a pure function over frozen records: read, check the answer, extract steps, find dependencies, pack into
stages, filter, write in the tag dialect, split. ``curate`` runs them over a source, and resumes an interrupted run.
"""

from sprint_finetune.grading import MathVerifier, Verifier

from .answer_record import AnswerRecord
from .estimate import Estimate, Questions, estimate
from .extractor import Extractor
from .filtering import Criteria
from .labelled_traces import Agreement, LabelledTrace, measure_agreement, read_labelled
from .llm_extractor import LLMExtractor
from .pace import Pace
from .pipeline import CurationSettings, Progress, curate
from .records import Dag, Extraction, LineRange, Rejection, Sample, Shape, Step, Trace, Violation
from .reformatting import Style
from .report import Bin, RejectionCount, Report
from .rules.rule_extractor import RuleExtractor
from .sources import Columns, Reading, RowSource, from_dataset, from_file, from_jsonl, from_rows
from .spending import CallTokens, Price, PricePerMillion, Spending

__all__ = [
    "curate",
    "CurationSettings",
    "Criteria",
    "Style",
    "Progress",
    "from_file",
    "from_jsonl",
    "from_dataset",
    "from_rows",
    "Reading",
    "Columns",
    "RowSource",
    "Trace",
    "Rejection",
    "Extractor",
    "RuleExtractor",
    "LLMExtractor",
    "AnswerRecord",
    "Pace",
    "Spending",
    "Price",
    "PricePerMillion",
    "CallTokens",
    "estimate",
    "Estimate",
    "Questions",
    "Extraction",
    "Step",
    "LineRange",
    "Dag",
    "Verifier",
    "MathVerifier",
    "Sample",
    "Shape",
    "Violation",
    "Report",
    "RejectionCount",
    "Bin",
    "LabelledTrace",
    "Agreement",
    "read_labelled",
    "measure_agreement",
]
