"""Measure how long `import sprint_agents` takes, against `import pydantic` alone, in fresh interpreters.

    python benchmarks/import_time.py [--rounds 10]

Each round starts one interpreter per statement, so a busy machine slows all statements alike. Times are milliseconds of
the statement alone, without the start of the interpreter.
"""

import argparse
import subprocess
import sys
from statistics import median

STATEMENTS = ("import pydantic", "import sprint_agents")
GOAL = 300  # milliseconds


def milliseconds(statement: str) -> float:
    """Return the time of the statement in a fresh interpreter."""
    code = f"import time; start = time.perf_counter(); {statement}; print(time.perf_counter() - start)"
    done = subprocess.run([sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True)
    return float(done.stdout) * 1000


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    for statement in STATEMENTS:
        milliseconds(statement)  # compiles modules that are not compiled yet
    times = {statement: list[float]() for statement in STATEMENTS}
    for _ in range(rounds):
        for statement in STATEMENTS:
            times[statement].append(milliseconds(statement))
    bare = median(times[STATEMENTS[0]])
    print(f"{'statement':<24}{'median ms':>10}{'best ms':>10}{'x pydantic':>12}")
    for statement, taken in times.items():
        print(f"{statement:<24}{median(taken):>10.0f}{min(taken):>10.0f}{median(taken) / bare:>12.2f}")
    print(f"goal: import sprint_agents under {GOAL} ms")


if __name__ == "__main__":
    main()
