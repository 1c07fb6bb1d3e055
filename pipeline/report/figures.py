"""Plots of the report, as SVG: accuracies with their intervals, the trace of a search, the course of a training."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.core.wording import fixed
from pipeline.report.svg import HUES, Svg, text_width

# columns of a trace that are not an indicator
TRACE_COLUMNS = frozenset(
    {"seed", "round", "step", "event", "cell", "edge", "operation", "rank", "seconds", "k_shot", "episode"}
)
CURVE_COLUMNS = frozenset(
    {"seed", "k_shot", "architecture", "epoch", "iteration", "seconds", "learning_rate", "lr", "validation_ci95",
     "best_iteration"}
)  # fmt: skip
MOST_CURVES = 6
# columns with the value or the relative change of an indicator in one repeat
DETAILS = ("_change_", "_repeat_")
MOST_BANDS = 40
MOST_DOTS = 4000
MOST_SCATTERED = 1500


@dataclass(frozen=True)
class Axis:
    """A stretch of numbers on a stretch of pixels, linear or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        low, high = self._scaled(self.low), self._scaled(self.high)
        share = 0.5 if high == low else (self._scaled(value) - low) / (high - low)
        return self.start + share * (self.end - self.start)

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.logarithmic else value

    def ticks(self, about: int = 5) -> list[float]:
        """Round numbers inside the stretch."""
        if self.logarithmic:
            found = self._powers()
            if len(found) >= 2:
                return found
        span = self.high - self.low
        if span <= 0:
            return [self.low]
        raw = span / about
        unit = 10 ** math.floor(math.log10(raw))
        step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= raw * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [step * k for k in range(first, math.floor(self.high / step + 1e-9) + 1)]

    def _powers(self) -> list[float]:
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        every = max(1, (last - first) // 5)
        powers = [10.0**k for k in range(first, last + 1, every)]
        return [power for power in powers if self.low <= power <= self.high]


def readable(value: float) -> str:
    """A tick's number, short."""
    if value and (abs(value) >= 1e5 or abs(value) < 1e-3):
        mantissa, exponent = f"{value:.0e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    return f"{value:.6g}"


def _axis(values: Sequence[float], start: float, end: float, logarithmic: bool | None = None) -> Axis:
    """An axis that holds all values with a little room; logarithmic when they span much and are positive."""
    low, high = min(values), max(values)
    if logarithmic is None:
        logarithmic = low > 0 and high / low > 50
    if logarithmic:
        room = (high / low) ** 0.04 if high > low else 1.5
        return Axis(low / room, high * room, start, end, True)
    room = 0.05 * (high - low) or max(abs(high) * 0.05, 0.05)
    return Axis(low - room, high + room, start, end)


def accuracy_figure(rows: Sequence[Mapping[str, Any]], title: str) -> str:
    """Dots with two whiskers: the interval over episodes (thick) and the data-aware one (thin), in percent.

    Args:
        rows: {"name", "mean", "ci95", "low", "high", "untrained", "control": bool}, fractions; "ci95", "low", "high"
            and "untrained" may be None.
    """
    left = 24 + max(text_width(row["name"]) for row in rows)
    width, height = 520, 58 + 28 * len(rows)
    figure = Svg(width, height, title)
    values = [100 * value for row in rows for value in _extent(row)]
    across = _axis(values, left, width - 22, logarithmic=False)
    figure.text(12, 16, title, "title")
    for tick in across.ticks():
        figure.line(across(tick), 28, across(tick), height - 26, "rule")
        figure.text(across(tick), height - 10, readable(tick), "soft small", "middle")
    for index, row in enumerate(rows):
        y = 42 + 28 * index
        colour = 7 if row["control"] else 0
        figure.text(left - 12, y + 4, row["name"], "soft" if row["control"] else None, "end")
        if row["untrained"] is not None:
            figure.circle(across(100 * row["untrained"]), y, 3.5, "hollow", f"untrained {100 * row['untrained']:.2f} %")
        if row["low"] is not None:
            ends = [across(100 * row[name]) for name in ("low", "high")]
            figure.line(ends[0], y, ends[1], y, f"s{colour}", 1.5)
            for end in ends:
                figure.line(end, y - 4, end, y + 4, f"s{colour}", 1.5)
        if row["ci95"] is not None:
            ends = [across(100 * (row["mean"] + sign * row["ci95"])) for sign in (-1, 1)]
            figure.line(ends[0], y, ends[1], y, f"s{colour}", 5)
        half = "" if row["ci95"] is None else f" ± {100 * row['ci95']:.2f}"
        figure.circle(across(100 * row["mean"]), y, 4.5, f"f{colour}", f"{row['name']} {100 * row['mean']:.2f}{half} %")
    return figure.render()


def _extent(row: Mapping[str, Any]) -> list[float]:
    half = row["ci95"] or 0.0
    every = [row["mean"] - half, row["mean"] + half, row["low"], row["high"], row["untrained"]]
    return [value for value in every if value is not None]


def indicators(trace) -> list[str]:
    """Columns of a trace that hold an indicator's values: numbers that are not part of the book-keeping."""
    own = [name for name in trace.columns if name not in TRACE_COLUMNS]
    candidates = [name for name in own if not any(part in name for part in DETAILS)]
    return [name for name in candidates if trace[name].dtype.kind in "if" and trace[name].notna().any()]


def trace_figure(trace, title: str) -> str | None:
    """Per indicator, the candidates' values round by round and, in colour, those whose operation was then cut.

    Args:
        trace: table with columns round, event, and one per indicator; None is returned when it holds no value.
    """
    import numpy

    names = indicators(trace) if len(trace) else []
    if not names:
        return None
    width, panel, left = 760, 150, 74
    figure = Svg(width, 34 + panel * len(names) + 22, title)
    figure.text(12, 16, title, "title")
    if trace["event"].astype(str).str.endswith("pruned").any():
        _trace_legend(figure, width)
    bands = _round_bands(trace, left, width - 16)
    for index, name in enumerate(names):
        top = 40 + panel * index
        part = trace[numpy.isfinite(trace[name].astype(float))]
        part = part.iloc[:: math.ceil(len(part) / MOST_DOTS)] if len(part) > MOST_DOTS else part
        if part.empty:
            continue
        up = _axis(part[name].tolist(), top + panel - 22, top + 12)
        _ticks_and_name(figure, up, name, left, width)
        for number, (start, end) in bands.items():
            _round_dots(figure, part[part["round"] == number], name, up, start, end - start)
    _round_numbers(figure, bands)
    return figure.render()


def _round_bands(trace, left: float, right: float) -> dict[float, tuple[float, float]]:
    """Stretch of the width of each round, growing with the square root of its number of candidates."""
    sizes = trace.groupby("round").size().pow(0.5)
    ends = (left + (right - left) * sizes.cumsum() / sizes.sum()).tolist()
    return dict(zip(sizes.index.tolist(), itertools.pairwise([left, *ends]), strict=True))


def _trace_legend(figure: Svg, width: float) -> None:
    for x, class_, what in ((width - 220, "faint", "candidate"), (width - 132, "f1", "operation cut here")):
        figure.circle(x, 12, 3.5, class_)
        figure.text(x + 9, 16, what, "soft small")


def _ticks_and_name(figure: Svg, up: Axis, name: str, left: float, width: float) -> None:
    for tick in up.ticks(4):
        figure.line(left, up(tick), width - 12, up(tick), "rule")
        figure.text(left - 8, up(tick) + 4, readable(tick), "soft small", "end")
    figure.text(left + 2, up.end - 2, name.replace("_", " "), "small halo")


def _round_dots(figure: Svg, part, name: str, up: Axis, x: float, share: float) -> None:
    """The values of one round, in the order of their ranks, across the round's share of the width."""
    part = part.sort_values("rank", kind="stable") if "rank" in part else part
    size = 1.0 if share > 6 * len(part) else 0.75
    for place, (value, event) in enumerate(zip(part[name], part["event"].astype(str), strict=True)):
        across = x + share * (place + 0.5) / (len(part) + 1)
        cut = event.endswith("pruned")
        figure.circle(across, up(value), 3.2 * size if cut else 2.2 * size, "f1" if cut else "faint")


def _round_numbers(figure: Svg, bands: Mapping[float, tuple[float, float]]) -> None:
    last = -math.inf
    for start, _ in bands.values() if len(bands) <= MOST_BANDS else ():
        figure.line(start, 34, start, figure.height - 40, "rule", 1, "2 4")
    for number, (start, end) in bands.items():
        middle = (start + end) / 2
        if middle - last > 22:
            figure.text(middle, figure.height - 24, f"{number:g}", "soft small", "middle")
            last = middle
    whole = [edge for band in bands.values() for edge in band]
    label = "round of the search, candidates in order of rank"
    figure.text((whole[0] + whole[-1]) / 2, figure.height - 6, label, "soft small", "middle")


def line_figure(
    series: Mapping[str, Sequence[tuple[float, float]]],
    title: str,
    x_label: str,
    width: float = 370,
    *,
    thin: Mapping[str, Sequence[Sequence[tuple[float, float]]]] | None = None,
    hues: Mapping[str, int] | None = None,
) -> str | None:
    """Lines with their names over whole numbers, such as epochs; None when no line has a point.

    Args:
        thin: by name of a line, those that it is the mean of, drawn thinly in its colour.
        hues: colours of lines by name; those without one take their place among the lines.
    """
    lines = {name: finite for name, points in series.items() if (finite := _finite(points))}
    if not lines:
        return None
    behind = {name: [finite for points in (thin or {}).get(name, ()) if (finite := _finite(points))] for name in lines}
    every = [point for name, points in lines.items() for one in (points, *behind[name]) for point in one]
    places = _legend_places(list(lines) if len(lines) > 1 else [], width)
    top = max((y for _, y in places.values()), default=30.0)
    height, left = 190 + top, 58
    figure = Svg(width, height, title)
    figure.text(12, 16, title, "title")
    across = _axis([x for x, _ in every], left, width - 14, logarithmic=False)
    up = _axis([y for _, y in every], height - 42, top + 16, logarithmic=False)
    for tick in up.ticks():
        figure.line(left, up(tick), width - 12, up(tick), "rule")
        figure.text(left - 8, up(tick) + 4, readable(tick), "soft small", "end")
    for tick in filter(float.is_integer, map(float, across.ticks())):
        figure.text(across(tick), height - 24, readable(tick), "soft small", "middle")
    figure.text((left + width) / 2, height - 7, x_label, "soft small", "middle")
    for index, (name, points) in enumerate(lines.items()):
        hue = (hues or {}).get(name, index % len(HUES))
        for one in behind[name]:
            figure.polyline([(across(a), up(b)) for a, b in one], f"s{hue} thin", 1)
        figure.polyline([(across(a), up(b)) for a, b in points], f"s{hue}", 2)
        if len(points) < 40:
            for a, b in points:
                figure.circle(across(a), up(b), 2.4, f"f{hue}", f"{name}: {readable(b)}")
        if name in places:
            x, y = places[name]
            figure.circle(x + 4, y, 3.5, f"f{hue}")
            figure.text(x + 12, y + 4, name, "soft small")
    return figure.render()


def _legend_places(names: Sequence[str], width: float) -> dict[str, tuple[float, float]]:
    """Where the names of lines stand under the title, in as many rows as they take."""
    places, x, y = {}, 12.0, 30.0
    for name in names:
        step = 30 + text_width(name, 11)
        if x > 12 and x + step > width:
            x, y = 12.0, y + 16
        places[name] = x, y
        x += step
    return places


def _finite(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [point for point in points if math.isfinite(point[1])]


def curve_figures(curve) -> list[str]:
    """One figure per measured quantity of a training curve, a line per network that was trained.

    Steps are epochs or, where a start was meta-learned, iterations; of many networks the first ones are shown.
    """
    steps = next((name for name in ("epoch", "iteration") if name in curve), None)
    if steps is None or curve.empty:
        return []
    by = [name for name in ("seed", "k_shot", "architecture") if name in curve]
    groups = list(curve.groupby(by, sort=False))[:MOST_CURVES] if by else [((0,), curve)]
    figures = []
    for name in curve.columns:
        if name in CURVE_COLUMNS or curve[name].dtype.kind not in "if":
            continue
        series = {
            _trained(key): list(zip(part[steps].astype(float), part[name].astype(float), strict=True))
            for key, part in groups
        }
        figure = line_figure(series, name.replace("_", " "), steps)
        if figure:
            figures.append(figure)
    return figures


def _trained(key: Sequence[int]) -> str:
    """Name of a network's curve: seed 0; where it was meta-learned, 1-shot, seed 0, no. 3."""
    if len(key) == 1:
        return f"seed {key[0]}"
    seed, k_shot, number = key
    return f"{k_shot}-shot, seed {seed}, no. {number}"


def standing_figure(rows: Sequence[Mapping[str, Any]], marks: Mapping[str, float], title: str) -> str:
    """A dot per method and a small ring per seed, in percent, between named marks such as the optimum.

    Args:
        rows: {"name", "mean", "per_seed", "control": bool}, fractions.
        marks: fractions by name, drawn as dashed lines.
    """
    left = 24 + max(text_width(row["name"]) for row in rows)
    width, height = 560, 84 + 26 * len(rows)
    figure = Svg(width, height, title)
    values = [100 * value for row in rows for value in (row["mean"], *row["per_seed"])]
    across = _axis([*values, *(100 * value for value in marks.values())], left, width - 22, logarithmic=False)
    figure.text(12, 16, title, "title")
    for tick in across.ticks():
        figure.line(across(tick), 48, across(tick), height - 26, "rule")
        figure.text(across(tick), height - 10, readable(tick), "soft small", "middle")
    for name, value in marks.items():
        x = across(100 * value)
        figure.line(x, 48, x, height - 26, "axis", 1.5, "5 4")
        half = text_width(name, 11) / 2
        figure.text(min(max(x, left + half), width - 8 - half), 40, name, "soft small", "middle")
    for index, row in enumerate(rows):
        y, colour = 64 + 26 * index, 7 if row["control"] else 0
        figure.text(left - 12, y + 4, row["name"], "soft" if row["control"] else None, "end")
        ends = [across(100 * value) for value in (min(row["per_seed"]), max(row["per_seed"]))]
        figure.line(ends[0], y, ends[1], y, f"s{colour}", 1.5)
        for value in row["per_seed"]:
            figure.circle(across(100 * value), y, 3.2, f"ring s{colour}", f"one seed: {100 * value:.2f} %")
        figure.circle(across(100 * row["mean"]), y, 4.8, f"f{colour}", f"{row['name']} {100 * row['mean']:.2f} %")
    return figure.render()


def interval_figure(rows: Sequence[Mapping[str, Any]], title: str, legend: Mapping[str, int]) -> str:
    """A dot with its interval per row, about a line at zero; published values as diamonds.

    Args:
        rows: {"name", "value", "low", "high", "hue": colour, "published": [(value, source)]}; "value", "low" and "high"
            may be None.
        legend: what the colours mean.
    """
    left = 24 + max(text_width(row["name"]) for row in rows)
    width, height = max(960.0, left + 420), 74 + 25 * len(rows)
    figure = Svg(width, height, title)
    values = [row[name] for row in rows for name in ("value", "low", "high") if row[name] is not None]
    values += [value for row in rows for value, _ in row["published"]]
    across = _axis([0.0, *values], left, width - 22, logarithmic=False)
    figure.text(12, 16, title, "title")
    x = 12.0
    marks = [*legend.items(), ("published", None)] if any(row["published"] for row in rows) else legend.items()
    for what, hue in marks:
        if hue is None:
            _diamond(figure, x + 5, 33)
        else:
            figure.circle(x + 5, 33, 4, f"f{hue}")
        figure.text(x + 14, 37, what, "soft small")
        x += 34 + text_width(what, 11)
    for tick in across.ticks(8):
        figure.line(across(tick), 48, across(tick), height - 26, "rule")
        figure.text(across(tick), height - 10, readable(tick), "soft small", "middle")
    figure.line(across(0), 48, across(0), height - 26, "axis", 1.2)
    for index, row in enumerate(rows):
        y = 61 + 25 * index
        figure.text(left - 12, y + 4, row["name"], None, "end")
        if row["value"] is None:
            figure.text(across(0) + 8, y + 4, "undefined", "soft small halo")
            continue
        if row["low"] is not None and row["high"] is not None:
            ends = [across(row[name]) for name in ("low", "high")]
            figure.line(ends[0], y, ends[1], y, f"s{row['hue']}", 4)
        figure.circle(across(row["value"]), y, 4.8, f"f{row['hue']}", f"{row['name']}: {fixed(row['value'], 3)}")
        for value, source in row["published"]:
            _diamond(figure, across(value), y, f"{value:g}, {source}")
    return figure.render()


def _diamond(figure: Svg, x: float, y: float, tip: str | None = None) -> None:
    figure.path(f"M{x:.1f} {y - 5:.1f}l5 5l-5 5l-5 -5z", "diamond", 1.5, tip=tip)


def scatter_figure(scores: Sequence[float | None], accuracies: Sequence[float], title: str, hue: int) -> str | None:
    """Score against accuracy in percent, a dot per architecture, at most MOST_SCATTERED; None without a finite score.

    The scores' axis is logarithmic where the positive ones span decades; scores that such an axis cannot hold stand at
    its edge as rings.
    """
    pairs = [(x, 100 * y) for x, y in zip(scores, accuracies, strict=True) if x is not None and math.isfinite(x)]
    if not pairs:
        return None
    every = math.ceil(len(pairs) / MOST_SCATTERED)
    width, height, left = 366, 250, 50
    figure = Svg(width, height, title)
    figure.text(12, 16, title, "title")
    positive = [x for x, _ in pairs if x > 0]
    logarithmic = len(positive) >= 0.5 * len(pairs) and max(positive) / min(positive) > 50
    across = _axis(positive if logarithmic else [x for x, _ in pairs], left + 14, width - 16, logarithmic)
    up = _axis([y for _, y in pairs], height - 44, 30, logarithmic=False)
    for tick in up.ticks():
        figure.line(left, up(tick), width - 12, up(tick), "rule")
        figure.text(left - 8, up(tick) + 4, readable(tick), "soft small", "end")
    last = -math.inf
    for tick in across.ticks(4):
        size = text_width(readable(tick), 11)
        if across(tick) - size / 2 > last + 6 and across(tick) + size / 2 < width:
            figure.text(across(tick), height - 26, readable(tick), "soft small", "middle")
            figure.line(across(tick), height - 44, across(tick), height - 40, "axis")
            last = across(tick) + size / 2
    figure.text(
        (left + width) / 2, height - 8, "score, logarithmic" if logarithmic else "score", "soft small", "middle"
    )
    for x, y in pairs[::every]:
        if logarithmic and x <= 0:
            figure.circle(left + 5, up(y), 2.2, f"ring s{hue}")
        else:
            figure.circle(across(x), up(y), 2.2, f"f{hue} dot")
    return figure.render()
