"""The number of cases of each parser, at the end of a run."""

from tests.fuzz.counted import counts


def pytest_terminal_summary(terminalreporter):
    for name, of in sorted(counts.items()):
        terminalreporter.write_line(f"{name:28} {of['cases']:6} cases, {of['read']:6} of them read")
