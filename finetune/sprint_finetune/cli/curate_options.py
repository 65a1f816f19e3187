"""The options of ``sprint-finetune curate``."""

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, BadParameter, Option

from sprint_finetune.curation import Criteria, CurationSettings, PricePerMillion, Style

By = Literal["rules", "openai", "sglang"]


def _price(text: str) -> PricePerMillion:
    try:
        prompt, completion = map(Decimal, text.split("/"))
    except (ValueError, ArithmeticError):
        raise BadParameter(f"{text!r} is not two numbers such as 0.25/2") from None
    return PricePerMillion(prompt, completion)


def _dollars(text: str) -> Decimal:
    try:
        return Decimal(text.removeprefix("$"))
    except ArithmeticError:
        raise BadParameter(f"{text!r} is not a number such as 2.50") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class CurateOptions:
    """The options of ``curate``."""

    source: Annotated[
        str, Argument(metavar="SOURCE", help="A file (JSONL, JSON, Parquet, CSV), or a Hugging Face data set.")
    ]
    out: Annotated[Path, Option(metavar="FOLDER", help="The output folder; each stage appends to a file in it.")]
    by: Annotated[By, Option(help="What finds the steps: rules, or a model on a server.")] = "rules"
    url: Annotated[str | None, Option(help="The address of the model server.")] = None
    model: Annotated[str | None, Option(help="The model that finds the steps (openai).")] = None
    dag_model: Annotated[str | None, Option(help="The model that finds the dependencies, if it is another one.")] = None
    api_key_env: Annotated[str, Option(help="The environment variable that holds the API key.")] = "OPENAI_API_KEY"
    dry_run: Annotated[
        bool, Option("--dry-run", help="Send nothing: say how many requests, tokens and dollars a model would take.")
    ] = False
    max_tokens: Annotated[int, Option(min=1, help="Maximum number of tokens of each answer of a model.")] = 8_000
    requests_per_minute: Annotated[int | None, Option(min=1, help="Maximum number of requests in any minute.")] = None
    tokens_per_minute: Annotated[
        int | None, Option(min=1, help="Maximum number of tokens in any minute, prompts included.")
    ] = None
    token_budget: Annotated[
        int | None, Option(min=1, help="Stop before the folder's answers have taken more tokens than this.")
    ] = None
    dollar_budget: Annotated[
        Decimal | None, Option(parser=_dollars, metavar="DOLLARS", help="Stop before they have cost more than this.")
    ] = None
    price: Annotated[
        PricePerMillion | None,
        Option(parser=_price, metavar="IN/OUT", help="Dollars per million tokens of prompts and of answers."),
    ] = None
    dag_price: Annotated[
        PricePerMillion | None, Option(parser=_price, metavar="IN/OUT", help="The same for --dag-model.")
    ] = None
    split: Annotated[str, Option(help="The split of the data set.")] = "train"
    problem: Annotated[str | None, Option(help="The column with the problem; recognised by default.")] = None
    trace: Annotated[str | None, Option(help="The column with the trace; recognised by default.")] = None
    answer: Annotated[str | None, Option(help="The column with the right answer; likewise.")] = None
    ratio: Annotated[float, Option(min=1, help="Minimum number of steps per stage.")] = 1.5
    max_stages: Annotated[int, Option(min=1, help="Maximum number of stages.")] = 11
    width: Annotated[int, Option(min=0, help="Minimum number of executions in the widest stage.")] = 2
    max_violations: Annotated[
        int | None, Option(min=0, help="Maximum number of dependency violations; unlimited by default.")
    ] = None
    max_share: Annotated[
        float, Option(min=0.01, help="Maximum share of the chain's sequential tokens that a sample may have.")
    ] = 0.85
    tasks: Annotated[bool, Option(help="Reject samples with prompts that do not read as tasks.")] = True
    shortest: Annotated[int, Option(min=1, help="Fold executions with fewer lines than this into their plan.")] = 3
    eval_share: Annotated[float, Option(min=0, max=1, help="Share of the problems kept for evaluation.")] = 0.05
    separators: Annotated[bool, Option(help="Write a line between the steps of a plan.")] = True
    basis: Annotated[bool, Option(help="Write a line that names the executions a later plan builds on.")] = True
    breaks: Annotated[bool, Option(help="Write a line break after each tag of a plan.")] = True
    concurrency: Annotated[int, Option(min=1, help="Number of traces to process at once.")] = 8
    limit: Annotated[int | None, Option(min=1, help="Read only the first lines of the source.")] = None

    @property
    def settings(self) -> CurationSettings:
        """The settings that affect the samples."""
        criteria = Criteria(
            ratio=self.ratio,
            stages=self.max_stages,
            width=self.width,
            violations=self.max_violations,
            share=self.max_share,
            tasks=self.tasks,
        )
        return CurationSettings(
            criteria=criteria,
            style=Style(separators=self.separators, basis=self.basis, breaks=self.breaks),
            shortest_execution=self.shortest,
            eval_share=self.eval_share,
        )
