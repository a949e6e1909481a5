"""Parts of figures: functions that draw curves and lines on an axis."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes

from diffusion.measure import Estimate

MARKERS = {"exact": "o", "trained": "s", "empirical": "^"}


def points(
    axis: Axes, x, estimate: Estimate, *, color: str, marker: str = "o", label: str | None = None,
    filled: bool = True, shade: float = 1.0, size: float | int = 3.0, line: str = "",
) -> None:  # fmt: skip
    """Measured values with their standard errors; `line` joins them, `shade` is their opacity."""
    axis.errorbar(
        np.asarray(x), np.asarray(estimate.value), np.asarray(estimate.stderr), fmt=line + marker, color=color,
        label=label, alpha=shade, markersize=size, linewidth=0.7, markerfacecolor=color if filled else "none",
    )  # fmt: skip


def function(
    axis: Axes, x, of: Callable[[float], float], *, color: str, line: str = "-", label: str | None = None,
    shade: float = 1.0,
) -> None:  # fmt: skip
    """A predicted curve, evaluated at each of x, behind the points."""
    values = [of(float(value)) for value in np.asarray(x)]
    axis.plot(np.asarray(x), values, line, color=color, label=label, alpha=shade, linewidth=0.8, zorder=0)


def marks(axis: Axes, places: Sequence[float], *, color: str = "0.75", label: str | None = None) -> None:
    """Vertical lines, as at predicted times."""
    for number, place in enumerate(places):
        axis.axvline(place, color=color, linewidth=0.6, zorder=-1, label=label if number == 0 else None)


def threshold(axis: Axes, value: float, *, label: str | None = None) -> None:
    """The horizontal line at which crossings are read."""
    axis.axhline(value, color="0.6", linewidth=0.6, linestyle=":", zorder=0, label=label)


def shades(count: int, darkest_last: bool = True) -> list[float]:
    """Opacities that distinguish the curves of a family."""
    opacities = np.linspace(0.35, 1, count).tolist() if count > 1 else [1.0]
    return opacities if darkest_last else opacities[::-1]
