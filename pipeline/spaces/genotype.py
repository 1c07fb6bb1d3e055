"""Genotypes of cell spaces and their text.

The text is the field's own: `Genotype(normal=[[('sep_conv_3x3', 0), ('conv_3x3', 1)], ...], normal_concat=[2, 3, 4],
reduce=[...], reduce_concat=[2, 3, 4])`, per intermediate node its (operation, input node) pairs. It is read by a parser
that accepts literals only. Also understood: `range(2, 5)` for a concat, and one flat list of pairs per cell, two
pairs a node.
"""

import ast
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.core.errors import GenotypeError, UnknownNameError, shown

Pair = tuple[str, int]
Node = tuple[Pair, ...]

INPUTS_PER_NODE = 2
_FIELDS = ("normal", "normal_concat", "reduce", "reduce_concat")
_EXAMPLE = "Genotype(normal=[[('sep_conv_3x3', 0), ('skip_connect', 1)], ...], normal_concat=[2, ...], reduce=...)"


@dataclass(frozen=True)
class Genotype:
    """An architecture of a cell space: for both kinds of cell, the (operation, input node) pairs of each node."""

    normal: tuple[Node, ...]
    reduce: tuple[Node, ...]

    @property
    def cells(self) -> tuple[tuple[Node, ...], tuple[Node, ...]]:
        """The cells in the order of `cell_types`."""
        return self.normal, self.reduce

    def in_order(self) -> "Genotype":
        """The same architecture with the inputs of every node in ascending order."""
        return Genotype(*(tuple(tuple(sorted(node, key=lambda pair: pair[1])) for node in cell) for cell in self.cells))

    def __str__(self) -> str:
        concat = list(range(2, len(self.normal) + 2))
        normal, reduce = ([list(pairs) for pairs in cell] for cell in self.cells)
        return f"Genotype(normal={normal}, normal_concat={concat}, reduce={reduce}, reduce_concat={concat})"


def parse(text: str, *, operations: Sequence[str], n_nodes: int) -> Genotype:
    """The genotype that `text` describes in the space of these operations and this many intermediate nodes.

    Raises GenotypeError (UnknownNameError for an operation that the space lacks) naming cell and node.
    """
    fields = _read_fields(text)
    cells = []
    for name in ("normal", "reduce"):
        nodes = _nodes(fields[name], name)
        check_cell(nodes, name, operations=operations, n_nodes=n_nodes)
        _check_concat(fields[f"{name}_concat"], name, n_nodes)
        cells.append(nodes)
    return Genotype(*cells)


def check_cell(nodes: Sequence[Node], name: str, *, operations: Sequence[str], n_nodes: int) -> None:
    """Raise GenotypeError or UnknownNameError unless `nodes` is a cell of the space."""
    if len(nodes) != n_nodes:
        raise GenotypeError(f"The {name} cell has {len(nodes)} nodes; this space has {n_nodes} a cell.")
    for i, pairs in enumerate(nodes):
        where = f"Node {i + 2} of the {name} cell"
        if len(pairs) != INPUTS_PER_NODE:
            raise GenotypeError(f"{where} has {len(pairs)} inputs; every node needs {INPUTS_PER_NODE}.")
        for operation, source in pairs:
            if operation not in operations:
                raise UnknownNameError("operation", operation, operations, f"It stands at node {i + 2}, {name} cell.")
            if not 0 <= source < i + 2:
                raise GenotypeError(f"{where} reads node {shown(source)}; it can read the nodes 0 to {i + 1}.")
        if len({source for _, source in pairs}) != len(pairs):
            raise GenotypeError(f"{where} reads node {pairs[0][1]} twice; its inputs must differ.")


def _read_fields(text: str) -> dict[str, Any]:
    try:
        with warnings.catch_warnings(action="ignore", category=SyntaxWarning):
            call = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise GenotypeError(f"This is no genotype text: {_shorten(text)} ({error}). Expected {_EXAMPLE}.") from error
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Genotype"):
        raise GenotypeError(f"This is no genotype text: {_shorten(text)}. Expected {_EXAMPLE}.")
    given = [str(keyword.arg) for keyword in call.keywords]
    if call.args or sorted(given) != sorted(_FIELDS):
        raise GenotypeError(
            f"A genotype has the fields {', '.join(_FIELDS)}, each once and by name; "
            f"found {', '.join(given) or 'none'}."
        )
    return {keyword.arg: _literal(keyword.value, keyword.arg) for keyword in call.keywords}


def _literal(node: ast.expr, field: str) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range":
        bounds = [_literal(argument, field) for argument in node.args]
        if (
            not node.keywords
            and len(bounds) == 2
            and all(type(bound) is int for bound in bounds)
            and 0 <= bounds[1] - bounds[0] < 100
        ):
            return list(range(*bounds))
        raise GenotypeError(f"{field} must be a list such as [2, 3, 4] or range(2, 5).")
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError, MemoryError) as error:
        raise GenotypeError(f"{field} of the genotype may hold lists, pairs, names and numbers only.") from error


def _nodes(value: Any, name: str) -> tuple[Node, ...]:
    if not isinstance(value, (list, tuple)):
        raise GenotypeError(f"{name} is {shown(value)}; it must be a list with one list of pairs for each node.")
    if value and all(_is_pair(item) for item in value):
        value = [value[i : i + INPUTS_PER_NODE] for i in range(0, len(value), INPUTS_PER_NODE)]
    for i, pairs in enumerate(value):
        if not isinstance(pairs, (list, tuple)) or not all(_is_pair(pair) for pair in pairs):
            raise GenotypeError(
                f"Node {i + 2} of the {name} cell is {shown(pairs)}; "
                "it must be a list of pairs ('operation', input node)."
            )
    return tuple(tuple((operation, source) for operation, source in pairs) for pairs in value)


def _is_pair(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2 and type(value[0]) is str and type(value[1]) is int


def _check_concat(value: Any, name: str, n_nodes: int) -> None:
    expected = list(range(2, n_nodes + 2))
    if not isinstance(value, (list, tuple)) or list(value) != expected:
        raise GenotypeError(
            f"{name}_concat is {shown(value)}; the cells of this space concatenate the nodes {expected}."
        )


def _shorten(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
