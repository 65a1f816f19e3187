"""The commands; each is one function, in a module of its own where it has more to say than its options."""

from pathlib import Path
from typing import Annotated

import typer

from sprint_agents.cli.commands import Commands, VersionFlag
from sprint_finetune.nano.problems import Family, Split

from . import evaluating, writing
from .curating import By, Options, draw, run

app = typer.Typer(
    name="sprint-finetune",
    cls=Commands,
    help="From reasoning traces to models that plan and execute in parallel.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of a curation.")]


@app.callback()
def _configure(  # pyright: ignore[reportUnusedFunction]
    version: VersionFlag = False,
) -> None:
    del version


@app.command()
def curate(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A JSONL file, or a data set of Hugging Face: its folder or name.")
    ],
    *,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where each stage appends what it has done.")],
    by: Annotated[By, typer.Option(help="Who finds steps: rules, or a model on a server.")] = "rules",
    url: Annotated[str | None, typer.Option(help="Of the model server.")] = None,
    model: Annotated[str | None, typer.Option(help="The model that finds steps (openai).")] = None,
    dag_model: Annotated[str | None, typer.Option(help="The model that finds dependencies, if another.")] = None,
    api_key_env: Annotated[str, typer.Option(help="The environment variable that holds the key.")] = "OPENAI_API_KEY",
    split: Annotated[str, typer.Option(help="Of a data set.")] = "train",
    problem: Annotated[str, typer.Option(help="The column with the problem.")] = "problem",
    trace: Annotated[str, typer.Option(help="The column with the trace.")] = "trace",
    answer: Annotated[str, typer.Option(help="The column with the right answer.")] = "answer",
    ratio: Annotated[float, typer.Option(min=1, help="Least steps per stage.")] = 1.5,
    max_stages: Annotated[int, typer.Option(min=1, help="Most stages.")] = 11,
    width: Annotated[int, typer.Option(min=0, help="Least executions in some stage.")] = 2,
    max_violations: Annotated[int | None, typer.Option(min=0, help="Most dependency violations, if any bound.")] = None,
    shortest: Annotated[int, typer.Option(min=1, help="Lines of an execution that is not folded into its plan.")] = 3,
    eval_share: Annotated[float, typer.Option(min=0, max=1, help="Share of the problems kept for evaluation.")] = 0.05,
    separators: Annotated[bool, typer.Option(help="A line between the trains of thought of a plan.")] = True,
    basis: Annotated[bool, typer.Option(help="A line by which a later plan names what it builds on.")] = True,
    breaks: Annotated[bool, typer.Option(help="A line break after each tag of a plan.")] = True,
    concurrency: Annotated[int, typer.Option(min=1, help="Traces under way at once.")] = 8,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many lines of the source.")] = None,
) -> None:
    """Turn traces into samples; the same command goes on where it was stopped.

    FOLDER gets train.jsonl and eval.jsonl, their sequential twins in sequential/, report.json and report.html.
    """
    run(
        Options(
            source=source,
            out=out,
            by=by,
            url=url,
            model=model,
            dag_model=dag_model,
            api_key_env=api_key_env,
            split=split,
            columns=(problem, trace, answer),
            ratio=ratio,
            max_stages=max_stages,
            width=width,
            max_violations=max_violations,
            shortest=shortest,
            eval_share=eval_share,
            separators=separators,
            basis=basis,
            breaks=breaks,
            concurrency=concurrency,
            limit=limit,
        )
    )


@app.command()
def traces(
    task: Annotated[Family, typer.Argument(metavar="TASK", help="countdown, arithmetic or multiplication.")],
    *,
    out: Annotated[Path, typer.Option(metavar="FILE.jsonl", help="Where to write them.")],
    count: Annotated[int, typer.Option(min=1, help="How many, of different problems.")] = 100,
    seed: Annotated[int, typer.Option(help="Of the problems and of what goes wrong in them.")] = 0,
    split: Annotated[Split, typer.Option(help="Problems to train on, or those that are never trained on.")] = "train",
    slips: Annotated[float, typer.Option(min=0, max=1, help="Share of what goes wrong at first (not countdown).")] = 0,
    unsolvable: Annotated[float, typer.Option(min=0, max=1, help="Share without a solution (countdown).")] = 0,
) -> None:
    """Write sequential traces of our own tasks, for `curate` to read."""
    writing.write(task, count=count, seed=seed, split=split, slips=slips, unsolvable=unsolvable, out=out)


@app.command()
def dag(
    folder: Folder,
    trace_id: Annotated[str, typer.Argument(metavar="ID", help="Of a trace that was packed.")],
    *,
    out: Annotated[Path, typer.Option(metavar="PAGE.html", help="Where to write the page.")],
) -> None:
    """Draw the graph of one trace of a curation, kept or not, as an HTML page."""
    draw(folder, trace_id, out)


@app.command()
def evaluate(
    cases: Annotated[
        str,
        typer.Argument(metavar="CASES", help="countdown, arithmetic, multiplication, or a file: MATH-500, GPQA, …"),
    ],
    *,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where outcomes, table and plot are written.")],
    model: Annotated[Path | None, typer.Option(metavar="DIR", help="A checkpoint; sprint-nano by default.")] = None,
    twin: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Its sequential twin; the model itself else.")
    ] = None,
    policy: Annotated[list[str] | None, typer.Option(help="What to compare with the twin; several times.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Repetitions of each case.")] = 1,
    temperature: Annotated[float, typer.Option(min=0, help="0 is greedy.")] = 0.0,
    count: Annotated[int, typer.Option(min=1, help="Cases at most.")] = 100,
    concurrency: Annotated[int, typer.Option(min=1, help="Runs at once; no wall times are kept with more than 1.")] = 1,
) -> None:
    """Compare ways to solve the same cases; the same command goes on where it was stopped."""
    evaluating.run(
        evaluating.Options(
            cases=cases,
            model=model,
            twin=twin,
            policies=policy or ["interleaved"],
            seeds=seeds,
            temperature=temperature,
            count=count,
            concurrency=concurrency,
            out=out,
        )
    )


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.toml", help="Model, data and settings of a run.")],
) -> None:
    """Fine-tune a model on curated samples; the same command goes on from the last checkpoint."""
    from sprint_finetune.training.settings import Settings
    from sprint_finetune.training.sft import train as fine_tune

    typer.echo(fine_tune(Settings.load(recipe)))
