"""Draw docs/layers.svg and docs/contexts.svg: `python docs/tools/draw_diagrams.py`.

`layers` shows what the library is made of. `contexts` shows which tokens the planner and two executors read and write.
Both have a white ground, so that they are readable on a dark page.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from draw_run import STYLE, bar, line, text

DOCS = Path(__file__).parents[1]
WIDTH = 880
MARGIN = 24

COLOURS = """
.edge { fill: #eceff1; stroke: #90a4ae; }
.face { fill: #e3e7f8; stroke: #4a5fc1; }
.core { fill: #dff1ee; stroke: #4da79b; }
.engine { fill: #ffe0b8; stroke: #ef7d00; }
.server { fill: #fff; stroke: #90a4ae; stroke-dasharray: 4 3; }
.read { fill: #e3e7f8; stroke: #fff; stroke-width: 1.5; }
.fresh { fill: #ffe0b8; stroke: #ef7d00; }
.edge-of-prompt { stroke: #4a5fc1; stroke-dasharray: 3 3; }
.name { font-weight: 600; }
"""


@dataclass(frozen=True, slots=True)
class Layer:
    """One row: boxes side by side, each with a name and what it is for."""

    kind: str
    boxes: Sequence[tuple[str, str]]


LAYERS = [
    Layer("edge", [("command line", "sprint run, batch, inspect"), ("integrations", "bridges to other libraries")]),
    Layer("face", [("Sprint", "run, stream, map, run_sync: one way to solve tasks, any number of runs")]),
    Layer("core", [("runtime", "one run: plans, executors, joins, budgets, retries, events, journal")]),
    Layer("core", [("policies", "decide the next stage"), ("agents, tools", "type the answer and the results")]),
    Layer("core", [("dialects", "text to plan and back"), ("State, Context", "generate, fork, gather, join")]),
    Layer("engine", [("Engine", "the protocol: token ids in, token ids out, abort")]),
    Layer(
        "engine", [("Local", "in process"), ("SGLang", "/generate"), ("OpenAI", "chat, completions"), ("Fake", "tests")]
    ),
    Layer("server", [("torch", ""), ("SGLang server", ""), ("vLLM, Ollama, …", ""), ("your script", "")]),
]
ROW, GAP = 50, 12


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a context, as wide as drawn; ``kind`` says who writes it, or how it is read."""

    words: str
    width: float
    kind: str


QUESTION, FIRST, SECOND, REST, HEADER, RESULT = 92.0, 112.0, 112.0, 26.0, 20.0, 120.0  # widths of parts

LEGEND = [
    ("read", "read from the cache"),
    ("fresh", "read for the first time: the question, headers, joined results"),
    ("plan", "written by the planner"),
    ("execution", "written by the executor"),
]


def contexts() -> list[tuple[str, list[Part]]]:
    """Return who reads and writes what, in a stage with two subtasks and in the one after it."""
    question = Part("question", QUESTION, "read")
    first, second = Part("… prompt 1.1", FIRST, "read"), Part("… prompt 1.2", SECOND, "read")
    written = [Part(part.words, part.width, "plan") for part in (first, second)]
    header = Part("", HEADER, "fresh")
    results = [Part(f"execution 1.{number}", RESULT, "execution") for number in (1, 2)]
    joined = [Part(part.words, part.width, "fresh") for part in results]
    end = Part("", REST, "plan")
    return [
        ("planner, stage 1", [Part("question", QUESTION, "fresh"), *written, end]),
        ("executor 1.1", [question, first, header, results[0]]),
        ("executor 1.2", [question, first, second, header, results[1]]),
        ("planner, stage 2", [question, first, second, Part("", REST, "read"), *joined, Part("plan 2 …", 112, "plan")]),
    ]


def picture(description: str, height: float, parts: Iterator[str]) -> str:
    """Return an SVG on a white ground."""
    inner = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" role="img" '
        f'aria-label="{escape(description)}">\n<style>{STYLE}{COLOURS}</style>\n'
        f'<rect width="{WIDTH}" height="{height:g}" rx="10" fill="#fff"/>\n{inner}\n</svg>\n'
    )


def layers() -> str:
    """Return the picture of the layers: each uses those below it."""

    def parts() -> Iterator[str]:
        for number, layer in enumerate(LAYERS):
            top = MARGIN + number * (ROW + GAP)
            width = (WIDTH - 2 * MARGIN - GAP * (len(layer.boxes) - 1)) / len(layer.boxes)
            for place, (name, meaning) in enumerate(layer.boxes):
                left = MARGIN + place * (width + GAP)
                yield bar(left, top, left + width, ROW, layer.kind)
                middle = left + width / 2
                yield text(middle, top + (21 if meaning else 30), name, "name", anchor="middle")
                if meaning:
                    yield text(middle, top + 39, meaning, "note", anchor="middle")

    rows = ", ".join(" and ".join(name for name, _ in layer.boxes) for layer in LAYERS)
    height = 2 * MARGIN + len(LAYERS) * (ROW + GAP) - GAP
    return picture(f"The layers of the library, each using those below it: {rows}", height, parts())


def who_sees_what() -> str:
    """Return the picture of the contexts: executors read a prefix of the planner's tokens."""
    left, top, height, step = 144.0, 30, 32, 52

    def parts() -> Iterator[str]:
        for row, x in ((1, left + QUESTION + FIRST), (2, left + QUESTION + FIRST + SECOND)):
            yield line(x, top + height, x, top + row * step, "edge-of-prompt")
        for number, (role, pieces) in enumerate(contexts()):
            y, x = top + number * step, left
            yield text(left - 14, y + 21, role, "track", anchor="end")
            for piece in pieces:
                yield bar(x, y, x + piece.width, height, piece.kind)
                if piece.words:
                    colour = " on" if piece.kind == "plan" else ""
                    yield text(x + piece.width / 2, y + 20, piece.words, f"code{colour}", anchor="middle")
                x += piece.width
        for number, (kind, words) in enumerate(LEGEND):
            x, y = left + number % 2 * 330, top + 4 * step + 16 + number // 2 * 28
            yield bar(x, y, x + 22, 14, kind)
            yield text(x + 32, y + 12, words)

    description = (
        "Executor 1.1 reads the question and the plan up to the end of prompt 1.1, executor 1.2 reads up to the end of "
        "prompt 1.2; the planner then reads the plan and both executions"
    )
    return picture(description, top + 4 * step + 66, parts())


def main() -> None:
    """Draw both."""
    (DOCS / "layers.svg").write_text(layers(), "utf-8")
    (DOCS / "contexts.svg").write_text(who_sees_what(), "utf-8")


if __name__ == "__main__":
    main()
