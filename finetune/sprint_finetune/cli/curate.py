"""``sprint-finetune curate`` and ``dag``."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from sprint_agents.errors import ConfigurationError
from sprint_finetune.curation import (
    Columns,
    Estimate,
    LLMExtractor,
    Questions,
    Reading,
    Rejection,
    Report,
    Spending,
    Trace,
    curate,
    estimate,
    from_dataset,
    from_file,
)
from sprint_finetune.curation import Progress as Done
from sprint_finetune.curation.html_report import sample_page
from sprint_finetune.curation.output_files import read_packed_trace

from .curate_options import CurateOptions
from .extractors import opened_extractor


def run_curation(options: CurateOptions) -> None:
    """Turn traces into samples. Run the same command again to resume it.

    FOLDER gets train.jsonl and eval.jsonl, their sequential twins in sequential/, report.json and report.html.
    """
    console = Console(soft_wrap=True, highlight=False)
    if options.dry_run:
        for line in asyncio.run(_estimate(options)):
            console.print(line, markup=False)
        return
    report = asyncio.run(_curate(options))
    for line in summary(report):
        console.print(line, markup=False)
    if report.rejected:
        console.print(_rejections(report))
    console.print(f"report: {options.out / 'report.html'}", markup=False)


def draw_graph(folder: Path, trace_id: str, out: Path) -> None:
    """Write the page of one packed trace.

    Raises:
        ConfigurationError: the folder has no such trace, it was not packed, or the page cannot be written.
    """
    page = sample_page(read_packed_trace(folder, trace_id))
    try:
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{out} cannot be written: {error.strerror or error}") from error


def summary(report: Report) -> Iterator[str]:
    """Summarise a curation in a few lines."""
    splits = f"{report.train:,} to train, {report.eval:,} to evaluate"
    yield f"{report.traces:,} traces: {report.samples:,} samples ({splits})"
    if set(report.formats) - {"own"}:
        yield f"formats: {', '.join(f'{count:,} {name}' for name, count in report.formats.items())}"
    if report.sequential_share is not None:
        yield f"{report.lines:,} lines kept, sequential tokens {report.sequential_share:.0%} of the chains'"
    if report.strict_shares:
        best, middle = report.strict_shares[0], report.strict_shares[len(report.strict_shares) // 2]
        yield f"with tags, a sample has {middle:.0%} of its chain's sequential tokens (median; the shortest {best:.0%})"
    if report.violations:
        yield f"{report.violations:,} dependency violations in {report.samples_with_violations:,} samples"


def _rejections(report: Report) -> Table:
    table = Table("rejected by", "because", "traces", "for example", box=None)
    for count in report.rejected:
        table.add_row(count.stage, count.reason, f"{count.count:,}", count.example[:100])
    return table


async def _curate(options: CurateOptions) -> Report:
    async with AsyncExitStack() as opened:
        extractor = await opened.enter_async_context(opened_extractor(options))
        bar = opened.enter_context(_progress_bar())
        task = bar.add_task("", total=None, kept=0)

        def show(done: Done) -> None:
            bar.update(task, completed=done.done, total=done.total, kept=done.kept)

        return await curate(
            islice(_source(options), options.limit),
            options.out,
            extractor=extractor,
            settings=options.settings,
            concurrency=options.concurrency,
            on_progress=show,
        )


async def _estimate(options: CurateOptions) -> list[str]:
    """Say what a run with these options would ask and cost."""
    async with opened_extractor(options) as extractor:
        assert isinstance(extractor, LLMExtractor)
        found = await estimate(
            islice(_source(options), options.limit),
            options.out,
            extractor=extractor,
            settings=options.settings,
            concurrency=options.concurrency,
        )
        return list(estimate_lines(found, extractor.spending, max_tokens=options.max_tokens))


def estimate_lines(found: Estimate, spending: Spending, *, max_tokens: int) -> Iterator[str]:
    """Write an estimate in a few lines."""
    yield f"{found.read:,} traces, of which {found.traces:,} would be sent: nothing was sent"
    asked = (("steps", found.steps), ("dependencies", found.dags))
    for name, questions in asked:
        yield f"{name} ({questions.model}): about {_cost(questions, spending)}"
    most = [questions.most(max_tokens) for _, questions in asked]
    requests, tokens = sum(one.requests for one in most), sum(one.prompt + one.completion for one in most)
    priced = all(one.model in spending.prices for one in most)
    dollars = f", ${sum(one.price(spending) for one in most):,.2f}" if priced else ""
    longest = f"at most, with repairs and answers of {max_tokens:,} tokens"
    yield f"{longest}: {requests:,} requests, {tokens:,} tokens{dollars}"
    if not priced:
        yield "a price is unknown: pass --price IN/OUT, in dollars per million tokens, or install sprint-agents[prices]"


def _cost(questions: Questions, spending: Spending) -> str:
    tokens = f"{questions.prompt:,} tokens of prompts, {questions.completion:,} of answers"
    dollars = f", ${questions.price(spending):,.2f}" if questions.model in spending.prices else ""
    return f"{questions.requests:,} requests, {tokens}{dollars}"


def _source(options: CurateOptions) -> Iterator[Trace | Rejection]:
    columns = {"problem": options.problem, "trace": options.trace, "answer": options.answer}
    named = {name: column for name, column in columns.items() if column}
    reading = Reading(columns=Columns(**named) if named else None)
    path = Path(options.source)
    if path.is_file() or path.suffix == ".jsonl":
        return from_file(path, reading=reading)
    return from_dataset(options.source, split=options.split, reading=reading)


def _progress_bar() -> Progress:
    """Return a progress bar on stderr, disabled if stderr is not a terminal."""
    console = Console(stderr=True)
    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[kept]} kept"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
