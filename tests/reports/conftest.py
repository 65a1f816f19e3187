"""Situations that users of neighbouring projects reported, each tried with our own input.

A module is a kind of situations. A test carries ``@pytest.mark.reported("owner/project#number", …)``, and the summary
counts for each kind how many inputs were tried.
"""

from collections import Counter

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counts: dict[str, Counter[str]] = {}
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, ()):
            path, _, _ = report.nodeid.partition("::")
            if "tests/reports/" in path and report.when == "call":
                kind = path.rpartition("/")[2].removeprefix("test_").removesuffix(".py").replace("_", " ")
                counts.setdefault(kind, Counter())[outcome] += 1
    if counts:
        terminalreporter.section("public reports")
        terminalreporter.write_line(f"{'kind':40} {'inputs tried':>12} {'failures':>9}")
        for kind, count in sorted(counts.items()):
            terminalreporter.write_line(f"{kind:40} {count.total():>12} {count['failed']:>9}")
