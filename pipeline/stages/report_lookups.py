"""Write results/{space}.html and results/{space}.csv from the rows of all results looked up in that space's table.

Only files are read. Each is checked against the hash that was recorded when the result was made.
"""

from pathlib import Path

from pipeline.core.artifacts import read_csv, write_csv, write_text
from pipeline.report.lookups import lookup_table, render_lookups, stacked_lookups
from pipeline.report.schema import check_lookup
from pipeline.stages.report import entry, row_files

SHOWN = ("genotype", "trace", "drawing")


def add_arguments(parser) -> None:
    parser.add_argument("--space", required=True, help="only results of searches in this space")
    parser.add_argument(
        "--rows", required=True, nargs="+", metavar="PATH", help="row files of results, or folders that hold them"
    )
    parser.add_argument("--params", metavar="FILE", help="frozen parameters of this job")
    parser.add_argument("--out", required=True, metavar="FILE", help="the page, an HTML file")
    parser.add_argument("--table", required=True, metavar="FILE", help="all looked-up results as a table, a CSV file")


def run(arguments) -> None:
    frames = [(str(path), read_csv(path)) for path in row_files(arguments.rows)]
    table = stacked_lookups(frames, arguments.space)
    entries = [entry(row, SHOWN, check_lookup, stage="look-up") for row in table.to_dict("records")]
    write_csv(arguments.table, lookup_table(table))
    write_text(arguments.out, render_lookups(entries, table, str(Path(arguments.out).parent)))
