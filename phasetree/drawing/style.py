"""How results look: one figure style at column width, one palette, one way to write a number with its error."""

import math
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diffusion.measure import Estimate

ROUNDING = 1e-6  # relative; a smaller error in float32 is rounding

COLUMN = 3.4  # inches, one column of a two-column journal
PAGE = 7.1  # both columns

# Okabe and Ito's palette, distinguishable with any colour vision
COLORS = {
    "exact": "#0072B2",
    "trained": "#D55E00",
    "empirical": "#009E73",
    "theory": "#000000",
    "baseline": "#CC79A7",
}

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
"""Of the same, for families of curves without a name above."""

SETTINGS: dict[Any, Any] = {
    "font.size": 8,
    "axes.labelsize": 8,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.2,
}


in_style = mpl.rc_context(SETTINGS)
"""Decorator of functions that draw: only their figures take the settings above."""


def new_figure(rows: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of one column with panels one above the other; needs no display."""
    figure = Figure(figsize=(COLUMN, 0.3 + 2.3 * rows), layout="constrained")
    return figure, [figure.add_subplot(rows, 1, row + 1) for row in range(rows)]


def new_page(rows: int, columns: int) -> tuple[Figure, list[list[Axes]]]:
    """A figure of the width of a page, its panels row by row."""
    figure = Figure(figsize=(PAGE, 0.2 + 2.05 * rows), layout="constrained")
    return figure, [list(row) for row in figure.subplots(rows, columns, squeeze=False)]


def with_error(estimate: Estimate) -> str:
    """A number with its standard error, to two digits of the error: '0.468 +- .0041' reads 0.4680 +- 0.0041.

    An error that is not known, as of one repetition, is a question mark; that of an exact number, 0 or as small as
    rounding, is left out. A number is not resolved if it is NaN, or if its error is ten times as large as the number,
    and as 1.
    """
    value, error = float(estimate.value), float(estimate.stderr)
    if not math.isfinite(value):
        return "not resolved"
    if math.isinf(error) or error >= 10 * max(abs(value), 1):
        return f"not resolved (error {error:.1e})"
    if not error > ROUNDING * abs(value):
        return _plain(value) + (" +- ?" if math.isnan(error) else "")
    place = int(f"{error:.1e}".partition("e")[2])  # of the first digit of the error, after rounding
    if not -8 <= place <= 8:
        return f"({value / 10.0**place:.1f} +- {error / 10.0**place:.1f})e{place:+d}"
    digits = 1 - place
    value, error = round(value, digits), round(error, digits)
    return f"{value:z.{max(digits, 0)}f} +- {error:.{max(digits, 0)}f}"


def _plain(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 1e-12 or abs(value) >= 1e-3 else f"{value:.4g}"
