"""A small SVG writer: shapes in, one self-contained document out, legible on light and on dark paper.

Colours are CSS classes; the style sheet in each document follows the reader's colour scheme, so the same file serves
alone, inside the HTML page and in print.
"""

import re
from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr

# mid tones: at least 3:1 against both the white and the dark paper
HUES = ("#2f7fc2", "#d2691e", "#2a9d6f", "#b5549c", "#a8811a", "#7a67d8", "#c84a4a", "#3b9aa8")

STYLE = """
.fig{--ink:#1d2530;--soft:#6b7684;--rule:#d9dee5;--paper:#ffffff;--node:#f3f5f8;color-scheme:light dark;
font-family:ui-sans-serif,system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
@media (prefers-color-scheme:dark){.fig{--ink:#e6eaf0;--soft:#98a3b3;--rule:#39424f;--paper:#161b22;--node:#232b36}}
@media print{.fig{--ink:#1d2530;--soft:#6b7684;--rule:#d9dee5;--paper:#ffffff;--node:#f3f5f8}}
.fig text{fill:var(--ink);font-size:12px}.fig .soft{fill:var(--soft)}.fig .small{font-size:11px}
.fig .title{font-size:13px;font-weight:600}.fig .rule{stroke:var(--rule);fill:none}
.fig .axis{stroke:var(--soft);fill:none}.fig .node{fill:var(--node);stroke:var(--soft)}
.fig .halo{paint-order:stroke;stroke:var(--paper);stroke-width:4px;stroke-linejoin:round}
.fig .ink{fill:var(--ink);stroke:none}.fig .inkline{stroke:var(--ink);fill:none}
.fig .faint{fill:var(--soft);fill-opacity:.45;stroke:none}.fig .hollow{fill:var(--paper);stroke:var(--soft)}
"""
STYLE += "".join(
    f".fig .s{i}{{stroke:{hue};fill:none}}.fig .f{i}{{fill:{hue};stroke:none}}" for i, hue in enumerate(HUES)
)
STYLE += "".join(f".fig text.f{i}{{fill:{hue}}}" for i, hue in enumerate(HUES))
# after the colours, so that a ring keeps its paper
STYLE += ".fig .dot{fill-opacity:.45}.fig .thin{stroke-opacity:.4}.fig .ring{fill:var(--paper);stroke-width:1.5}"
STYLE += ".fig .diamond{fill:var(--paper);stroke:var(--ink)}"


_TAGS = "svg|g|line|path|polyline|polygon|circle|rect|text|tspan|title"
_ATTRIBUTES = (
    "xmlns|class|viewBox|width|height|role|aria-label|transform|x|y|x1|x2|y1|y2|dy|d|points|cx|cy|r|rx|stroke-width|"
    "stroke-dasharray|text-anchor|font-size"
)
_WRITTEN = re.compile(rf"""</?(?:{_TAGS})(?: (?:{_ATTRIBUTES})=(?:"[^"<>]*"|'[^'<>]*'))*/?>""")


def is_drawing(text: str) -> bool:
    """Whether a text is a drawing as `Svg.render` writes it: shapes and words, nothing that a browser would run."""
    rest = _WRITTEN.sub("", text.strip().replace(f"<style>{STYLE}</style>", "", 1))
    return text.startswith("<svg ") and not re.search("[<>]", rest)


def number(value: float) -> str:
    """A coordinate: at most two decimals, no trailing zeros."""
    return f"{value:z.2f}".rstrip("0").rstrip(".")


class Svg:
    """A drawing that is built shape by shape.

    Args:
        width, height: size in pixels, also the user units of all coordinates; y points down.
        label: what the figure shows, for readers who cannot see it.
    """

    def __init__(self, width: float, height: float, label: str):
        self.width, self.height, self.caption = width, height, label
        self._shapes: list[str] = []

    def _add(self, tag: str, text: str | None = None, tip: str | None = None, **attributes) -> None:
        pairs = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items() if value is not None}
        written = "".join(
            f" {key}={quoteattr(number(value) if isinstance(value, (int, float)) else str(value))}"
            for key, value in pairs.items()
        )
        inside = (f"<title>{escape(tip)}</title>" if tip else "") + (escape(text) if text is not None else "")
        self._shapes.append(f"<{tag}{written}>{inside}</{tag}>" if inside else f"<{tag}{written}/>")

    def line(self, x1: float, y1: float, x2: float, y2: float, class_: str, width: float = 1, dash=None) -> None:
        self._add("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_, stroke_width=width, stroke_dasharray=dash)

    def path(self, d: str, class_: str, width: float = 1.5, dash: str | None = None, tip: str | None = None) -> None:
        self._add("path", d=d, class_=class_, stroke_width=width, stroke_dasharray=dash, tip=tip)

    def polyline(self, points: Sequence[tuple[float, float]], class_: str, width: float = 1.5, dash=None) -> None:
        joined = " ".join(f"{number(x)},{number(y)}" for x, y in points)
        self._add("polyline", points=joined, class_=class_, stroke_width=width, stroke_dasharray=dash)

    def polygon(self, points: Sequence[tuple[float, float]], class_: str) -> None:
        self._add("polygon", points=" ".join(f"{number(x)},{number(y)}" for x, y in points), class_=class_)

    def circle(self, x: float, y: float, radius: float, class_: str, tip: str | None = None) -> None:
        self._add("circle", cx=x, cy=y, r=radius, class_=class_, tip=tip)

    def box(self, x: float, y: float, width: float, height: float, class_: str, radius: float = 6) -> None:
        self._add("rect", x=x, y=y, width=width, height=height, rx=radius, class_=class_)

    def text(self, x: float, y: float, text: str, class_: str | None = None, anchor: str = "start") -> None:
        """Text whose base line starts, has its middle or ends at (x, y)."""
        self._add("text", text, x=x, y=y, class_=class_, text_anchor=anchor if anchor != "start" else None)

    def label(self, x: float, y: float, text: str, class_: str | None = None) -> None:
        """Text with its middle at x; `c_{k-1}` and the like get their subscript."""
        written = re.match(r"^(.+?)_\{(.+)\}$", text)
        if not written:
            self.text(x, y, text, class_, "middle")
            return
        stem, below = (escape(part) for part in written.groups())
        inside = f'{stem}<tspan dy="3" font-size="9">{below}</tspan>'
        self._shapes.append(f'<text x="{number(x)}" y="{number(y)}" text-anchor="middle">{inside}</text>')

    def place(self, other: "Svg", x: float, y: float) -> None:
        """Put another drawing's shapes here, moved by (x, y)."""
        self._shapes.append(f'<g transform="translate({number(x)} {number(y)})">{"".join(other._shapes)}</g>')

    def render(self) -> str:
        """The whole document as text."""
        size = f"{number(self.width)} {number(self.height)}"
        width, height = size.split()
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="fig" viewBox="0 0 {size}" width="{width}" '
            f'height="{height}" role="img" aria-label={quoteattr(self.caption)}><style>{STYLE}</style>'
            f"{''.join(self._shapes)}</svg>\n"
        )


def text_width(text: str, size: float = 12) -> float:
    """About how wide `text` will be in the sans-serif of the style sheet, in pixels."""
    return 0.56 * size * len(text)
