"""``sprint-finetune curate`` and ``dag``."""

import asyncio
import os
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from sprint_agents.errors import ConfigurationError
from sprint_finetune.curation import (
    Columns,
    Criteria,
    CurationSettings,
    Extractor,
    LLMExtractor,
    Reading,
    Rejection,
    Report,
    RuleExtractor,
    Style,
    Trace,
    curate,
    from_dataset,
    from_file,
)
from sprint_finetune.curation import Progress as Done
from sprint_finetune.curation.html_report import sample_page
from sprint_finetune.curation.output_files import read_packed_trace

By = Literal["rules", "openai", "sglang"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CurateOptions:
    """The options of ``curate``. ``columns`` names the columns of problem, trace and answer, if they were named."""

    source: str
    out: Path
    by: By
    url: str | None
    model: str | None
    dag_model: str | None
    api_key_env: str
    split: str
    columns: tuple[str | None, str | None, str | None]
    ratio: float
    max_stages: int
    width: int
    max_violations: int | None
    max_share: float
    tasks: bool
    shortest: int
    eval_share: float
    separators: bool
    basis: bool
    breaks: bool
    concurrency: int
    limit: int | None


def run_curation(options: CurateOptions) -> None:
    """Curate, and print a summary."""
    report = asyncio.run(_curate(options))
    console = Console(soft_wrap=True, highlight=False)
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
        extractor = await opened.enter_async_context(_extractor(options))
        bar = opened.enter_context(_progress_bar())
        task = bar.add_task("", total=None, kept=0)

        def show(done: Done) -> None:
            bar.update(task, completed=done.done, total=done.total, kept=done.kept)

        return await curate(
            islice(_source(options), options.limit),
            options.out,
            extractor=extractor,
            settings=_settings(options),
            concurrency=options.concurrency,
            on_progress=show,
        )


def _source(options: CurateOptions) -> Iterator[Trace | Rejection]:
    named = {
        name: column for name, column in zip(("problem", "trace", "answer"), options.columns, strict=True) if column
    }
    reading = Reading(columns=Columns(**named) if named else None)
    path = Path(options.source)
    if path.is_file() or path.suffix == ".jsonl":
        return from_file(path, reading=reading)
    return from_dataset(options.source, split=options.split, reading=reading)


def _settings(options: CurateOptions) -> CurationSettings:
    criteria = Criteria(
        ratio=options.ratio,
        stages=options.max_stages,
        width=options.width,
        violations=options.max_violations,
        share=options.max_share,
        tasks=options.tasks,
    )
    return CurationSettings(
        criteria=criteria,
        style=Style(separators=options.separators, basis=options.basis, breaks=options.breaks),
        shortest_execution=options.shortest,
        eval_share=options.eval_share,
    )


@asynccontextmanager
async def _extractor(options: CurateOptions) -> AsyncGenerator[Extractor]:
    """Open the extractor.

    Raises:
        ConfigurationError: an option is missing, or does not apply to this extractor.
    """
    if options.by == "rules":
        if options.url or options.model or options.dag_model:
            raise ConfigurationError("rules need no model: pass --by openai or --by sglang with --url and --model")
        yield RuleExtractor()
    elif options.url is None:
        raise ConfigurationError(f"--by {options.by} needs the server's address: pass --url")
    elif options.by == "sglang":
        from sprint_agents.engines import SGLangEngine

        if options.model or options.dag_model:
            raise ConfigurationError("an SGLang server has only one model: leave out --model and --dag-model")
        async with SGLangEngine(options.url) as engine:
            yield LLMExtractor(engine)
    else:
        from sprint_agents.engines import OpenAIEngine

        if options.model is None:
            raise ConfigurationError("--by openai needs the model's name: pass --model")
        key = os.environ.get(options.api_key_env)
        async with AsyncExitStack() as opened:
            engine = await opened.enter_async_context(OpenAIEngine(options.url, model=options.model, api_key=key))
            other = OpenAIEngine(options.url, model=options.dag_model, api_key=key) if options.dag_model else None
            dag_engine = await opened.enter_async_context(other) if other else None
            yield LLMExtractor(engine, dag_engine=dag_engine)


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
