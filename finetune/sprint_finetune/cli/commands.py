"""The commands of ``sprint-finetune``: their options, and a call to the module that runs each one."""

from pathlib import Path
from typing import Annotated

import typer

from sprint_agents.cli.commands import Commands, VersionFlag
from sprint_agents.cli.engines import EngineName
from sprint_agents.cli.logs import LOG_LEVEL, configure_logs
from sprint_agents.cli.options import with_options
from sprint_finetune.nano.splits import Family, Split
from sprint_finetune.rl.settings import Method

from .curate import draw_graph, run_curation
from .curate_options import CurateOptions
from .evaluate import EvaluatedModel, EvaluateOptions, grade_answer, run_evaluation
from .export import Format, export_rollouts
from .options import command_of
from .plan import plan_memory
from .push import push_checkpoint
from .rl import run_rl
from .speedup import SpeedupOptions, measure_speedup
from .traces import write_traces

app = typer.Typer(
    name="sprint-finetune",
    cls=Commands,
    help="From reasoning traces to models that plan and execute in parallel.",
    epilog=f"Logs go to stderr; ${LOG_LEVEL} is the lowest level that is shown (default: warning).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The output folder of `curate`.")]


@app.callback()
def _configure(  # pyright: ignore[reportUnusedFunction]
    version: VersionFlag = False,
) -> None:
    del version
    configure_logs()


app.command("curate")(command_of(CurateOptions, run_curation))


@app.command()
def traces(
    task: Annotated[Family, typer.Argument(metavar="TASK", help="countdown, arithmetic or multiplication.")],
    *,
    out: Annotated[Path, typer.Option(metavar="FILE.jsonl", help="The file to write.")],
    count: Annotated[int, typer.Option(min=1, help="Number of traces, each of a different problem.")] = 100,
    seed: Annotated[int, typer.Option(help="Seed of the problems and of the slips in them.")] = 0,
    split: Annotated[
        Split, typer.Option(help="Training problems, or held-out problems, which are never trained on.")
    ] = "train",
    slips: Annotated[
        float, typer.Option(min=0, max=1, help="Share of operations that go wrong at first (not countdown).")
    ] = 0,
    unsolvable: Annotated[float, typer.Option(min=0, max=1, help="Share without a solution (countdown).")] = 0,
) -> None:
    """Write sequential traces of the built-in tasks, for `curate` to read."""
    write_traces(task, count=count, seed=seed, split=split, slips=slips, unsolvable=unsolvable, out=out)


@app.command()
def dag(
    folder: Folder,
    trace_id: Annotated[str, typer.Argument(metavar="ID", help="The id of a trace that was packed.")],
    *,
    out: Annotated[Path, typer.Option(metavar="PAGE.html", help="The page to write.")],
) -> None:
    """Draw the dependency graph of one curated trace, kept or not, as an HTML page."""
    draw_graph(folder, trace_id, out)


@app.command()
@with_options
def evaluate(
    *,
    options: EvaluatedModel,
    cases: Annotated[
        str,
        typer.Argument(
            metavar="CASES",
            help="A file: MATH-500, AIME, GSM8K, GPQA, Countdown or your own; countdown, arithmetic, multiplication; "
            "or gym:NAME,… of reasoning-gym.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The folder for outcomes, tables and plot.")],
    policy: Annotated[
        list[str] | None,
        typer.Option(help="The policy to compare with the sequential twin (default: interleaved); may be repeated."),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Attempts of self_consistency.")] = 8,
    twin: Annotated[
        str | None,
        typer.Option(metavar="DIR|NAME", help="The model of the sequential twin; the model itself by default."),
    ] = None,
    twin_url: Annotated[str | None, typer.Option(help="The address of the twin's server, if it is another.")] = None,
    checker: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:FUNCTION|FILE.py:FUNCTION",
            help="Your function that decides whether an answer is right: f(case, answer), async or not.",
        ),
    ] = None,
    check_seconds: Annotated[float, typer.Option(min=0.001, help="Seconds that a check may take.")] = 60.0,
    seeds: Annotated[int, typer.Option(min=1, help="Number of repetitions of each case.")] = 1,
    count: Annotated[int, typer.Option(min=1, help="Maximum number of cases; of reasoning-gym, for each name.")] = 100,
    concurrency: Annotated[
        int, typer.Option(min=1, help="Number of runs at once; wall times are kept only with 1.")
    ] = 1,
) -> None:
    """Compare several ways to solve the same cases, on any engine. Run the same command again to resume it."""
    run_evaluation(
        EvaluateOptions(
            cases=cases,
            model=options,
            twin=twin,
            twin_url=twin_url,
            policies=policy or ["interleaved"],
            samples=samples,
            checker=checker,
            check_seconds=check_seconds,
            seeds=seeds,
            count=count,
            concurrency=concurrency,
            out=out,
        )
    )


@app.command()
def grade(
    reference: Annotated[str, typer.Argument(metavar="REFERENCE", help="The right answer.")],
    answer: Annotated[str, typer.Argument(metavar="ANSWER", help="What was answered: the answer, or a text with it.")],
    *,
    problem: Annotated[str, typer.Option(help="The problem, if its options or its task matter.")] = "",
) -> None:
    """Say whether an answer is right, wrong or undecided, as `curate` and `evaluate` decide it."""
    typer.echo(grade_answer(reference, answer, problem=problem))


@app.command()
def speedup(
    runs: Annotated[Path, typer.Argument(metavar="RUNS.jsonl", help="Recorded runs, such as `sprint batch` writes.")],
    *,
    engine: Annotated[EngineName, typer.Option(help="The engine to replay them on.")] = "local",
    model: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|NAME",
            help="The checkpoint (local), its tokenizer (sglang), or the server's name of the model.",
        ),
    ] = None,
    url: Annotated[str | None, typer.Option(help="The address of the server.")] = None,
    at_once: Annotated[
        list[int] | None, typer.Option(min=1, help="Number of runs at the same time; may be repeated; default: 1.")
    ] = None,
    twin: Annotated[
        Path | None,
        typer.Option(
            metavar="RUNS.jsonl", help="Runs of the sequential twin on the same tasks: the lengths of chains."
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Replay only the first runs.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.json", help="Where to write the table as well.")] = None,
) -> None:
    """Say whether planning would be faster on an engine: replay recorded runs there, and as chains."""
    measure_speedup(
        SpeedupOptions(
            runs=runs, twin=twin, engine=engine, model=model, url=url, at_once=at_once or [1], limit=limit, out=out
        )
    )


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.toml", help="The model, data and settings of a run.")],
) -> None:
    """Fine-tune a model on curated samples. Run the same command again to resume from the last checkpoint."""
    from sprint_finetune.training.finetune import train as fine_tune
    from sprint_finetune.training.settings import Settings

    typer.echo(fine_tune(Settings.load(recipe)))


@app.command()
def rl(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.toml", help="The model, problems and settings of a run.")],
    *,
    method: Annotated[
        Method | None, typer.Option(help="Policy gradients, or fine-tuning on the quickest right runs.")
    ] = None,
    output: Annotated[Path | None, typer.Option(metavar="FOLDER", help="The folder of the run.")] = None,
    server: Annotated[str | None, typer.Option(help="The address of an SGLang server (default: this process).")] = None,
    iterations: Annotated[int | None, typer.Option(min=1, help="Number of iterations.")] = None,
) -> None:
    """Train a model on its own runs: right answers count, and of those the quick ones. Run it again to resume."""
    run_rl(recipe, method=method, output=output, server=server, iterations=iterations)


@app.command()
def export(
    rollouts: Annotated[Path, typer.Argument(metavar="ROLLOUTS.jsonl", help="A file of `sprint batch --rollouts`.")],
    *,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The folder to write into.")],
    to: Annotated[
        Format, typer.Option(help="verifiers: traces.jsonl, which prime-rl reads too; datasets: a parquet file.")
    ] = "verifiers",
    verified: Annotated[bool, typer.Option("--verified", help="Only runs whose answer was checked and right.")] = False,
) -> None:
    """Turn recorded runs into training data: token ids, masks and log-probabilities of each branch."""
    export_rollouts(rollouts, out, to=to, verified=verified)


@app.command()
def plan(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.toml", help="The model and settings of a run.")],
    *,
    processes: Annotated[int, typer.Option(min=1, help="Number of GPUs, one process each.")] = 1,
) -> None:
    """Estimate the memory that a recipe needs, and say on which GPUs it fits. Reads the model's configuration only."""
    plan_memory(recipe, processes=processes)


@app.command()
def push(
    checkpoint: Annotated[Path, typer.Argument(metavar="DIR", help="The checkpoint, such as `train` printed it.")],
    name: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The repository; it is created if there is none.")],
    *,
    private: Annotated[bool, typer.Option("--private", help="Create it as a private repository.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be uploaded.")] = False,
) -> None:
    """Upload a checkpoint to the Hugging Face Hub: weights, tokenizer, sprint.json and a model card."""
    push_checkpoint(checkpoint, name, private=private, dry_run=dry_run)
