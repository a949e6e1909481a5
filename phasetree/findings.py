"""Findings: the named numbers that an experiment ends with, each measured, predicted or the difference of two.

A name is a path, the quantity first and then what it is of: `crossing/trained/U-turn/64`. `findings["crossing",
"trained", "U-turn", 64]` joins the parts, and `findings.select("crossing", "trained")` gives all that begin so.
Reports print findings and `findings.json` keeps them, so that both hold the same numbers. A number that is not finite
is not resolved: NaN in memory, `null` with `"resolved": false` in JSON.
"""

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from diffusion.measure import Estimate

Kind = Literal["measured", "predicted", "difference"]


def path(*parts: object) -> str:
    """The name of a finding: its parts joined by slashes, floats in six digits."""
    return "/".join(f"{part:g}" if isinstance(part, float | np.floating) else str(part) for part in parts)


@dataclass(frozen=True, eq=False, repr=False)
class Finding:
    """One number with its standard error, what it is, and in which unit.

    `estimate` is a scalar `Estimate`, kept in float64.
    """

    name: str
    estimate: Estimate
    kind: Kind
    unit: str
    note: str = ""

    def __post_init__(self):
        if not self.name or self.kind not in get_args(Kind):
            raise ValueError(
                f"finding {self.name!r} of kind {self.kind!r}: give a name, and {', '.join(get_args(Kind))}"
            )
        given = self.estimate if isinstance(self.estimate, Estimate) else Estimate(_scalar(self.estimate), _scalar(0.0))
        if np.shape(given.value) or np.shape(given.stderr):
            raise ValueError(f"finding {self.name!r} has shape {np.shape(given.value)}: give a scalar for each finding")
        object.__setattr__(self, "estimate", Estimate(_scalar(given.value), _scalar(given.stderr)))

    @classmethod
    def exact(cls, name: str, value: int | float, kind: Kind, unit: str, note: str = "") -> "Finding":
        """A number whose error is 0."""
        return cls(name, Estimate(_scalar(value), _scalar(0.0)), kind, unit, note)

    @property
    def value(self) -> float:
        """NaN where it is not resolved."""
        return float(self.estimate.value)

    @property
    def stderr(self) -> float:
        """0 of an exact number, NaN where it is not known."""
        return float(self.estimate.stderr)

    @property
    def resolved(self) -> bool:
        """Whether value and error are known."""
        return math.isfinite(self.value) and math.isfinite(self.stderr)

    def as_json(self) -> dict[str, object]:
        """All fields, the number as `value` and `stderr`, each `null` where it is not known."""
        numbers = {
            name: x if math.isfinite(x) else None for name, x in (("value", self.value), ("stderr", self.stderr))
        }
        return {"name": self.name, **numbers, "resolved": self.resolved, "kind": self.kind, "unit": self.unit,
                "note": self.note}  # fmt: skip

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Finding) and self.as_json() == other.as_json()

    def __repr__(self) -> str:
        return f"Finding({self.name!r}, {self.value:.6g} +- {self.stderr:.2g}, {self.kind!r}, {self.unit!r})"

    def __hash__(self) -> int:
        return hash(tuple(self.as_json().items()))


class Findings:
    """Findings in the order they were given, each of another name."""

    def __init__(self, findings: Iterable[Finding]):
        self._by_name: dict[str, Finding] = {}
        for finding in findings:
            if finding.name in self._by_name:
                raise ValueError(f"two findings are named {finding.name!r}: give each a name of its own")
            self._by_name[finding.name] = finding

    def __getitem__(self, parts: object) -> Finding:
        """By name, or by the parts of the name."""
        name = path(*parts) if isinstance(parts, tuple) else path(parts)
        if name not in self._by_name:
            raise KeyError(f"no finding {name!r}; there are: {', '.join(self._by_name)}")
        return self._by_name[name]

    def __contains__(self, parts: object) -> bool:
        return (path(*parts) if isinstance(parts, tuple) else path(parts)) in self._by_name

    def __iter__(self) -> Iterator[Finding]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Findings) and list(self) == list(other)

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __repr__(self) -> str:
        return f"Findings({list(self)!r})"

    def select(self, *parts: object) -> "Findings":
        """Those whose name begins with these parts."""
        start = path(*parts)
        return Findings(f for f in self if f.name == start or f.name.startswith(start + "/"))

    def curve(self, *parts: object) -> Estimate:
        """Values and errors of `select(*parts)`, in order: the points of a curve."""
        chosen = list(self.select(*parts))
        if not chosen:
            raise KeyError(f"no finding begins with {path(*parts)!r}; there are: {', '.join(self._by_name)}")
        return Estimate(*(jnp.stack([getattr(f.estimate, part) for f in chosen]) for part in ("value", "stderr")))

    def to_json(self) -> str:
        """Strict JSON, without NaN or Infinity."""
        return json.dumps({"findings": [finding.as_json() for finding in self]}, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Findings":
        """Those that `to_json` wrote.

        Raises:
          ValueError: if the text is anything else.
        """
        try:
            rows = json.loads(text)["findings"]
            return cls(_from_row(row) for row in rows)
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"these are not findings ({error!r}): give what Findings.to_json wrote") from error


def _from_row(row: dict) -> Finding:
    value, stderr = (math.nan if row[name] is None else row[name] for name in ("value", "stderr"))
    return Finding(row["name"], Estimate(_scalar(value), _scalar(stderr)), row["kind"], row["unit"], row["note"])


def curve_findings(
    name: tuple[object, ...], at: Iterable[float] | np.ndarray | jax.Array, values: Estimate, kind: Kind, unit: str
) -> list[Finding]:
    """A finding for each point of a curve, named by where it is: `chi/exact/0.3`."""
    points = zip(at, np.asarray(values.value), np.asarray(values.stderr), strict=True)
    return [Finding(path(*name, float(x)), Estimate(_scalar(v), _scalar(e)), kind, unit) for x, v, e in points]


def _scalar(x: object) -> jax.Array:
    """In float64 whatever the settings; what is infinite is not resolved either."""
    number = float(x)  # pyright: ignore[reportArgumentType]
    with jax.enable_x64(True):
        return jnp.asarray(number if math.isfinite(number) else math.nan, jnp.float64)
