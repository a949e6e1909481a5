"""Findings and reports: kept as strict JSON, read back the same, and printed by one formatter."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.measure import Estimate
from phasetree.drawing.style import with_error
from phasetree.experiment import Finding, Findings, Report, Table, curve_findings


def estimate(value, stderr, dtype=jnp.float64):
    return Estimate(jnp.asarray(value, dtype), jnp.asarray(stderr, dtype))


FINDINGS = Findings(
    [
        Finding("crossing/exact/8", estimate(1 / 3, 0.1), "measured", "OU time", "of 3 levels"),
        Finding("crossing/exact/16", estimate(np.nan, np.inf), "measured", "OU time"),
        Finding("crossing/exact/1", estimate(0.1, 0.2, jnp.float32), "measured", "OU time"),
        Finding.exact("crossing/theory/8", 0.5, "predicted", "OU time"),
    ]
)


def test_findings_come_back_from_strict_json():
    text = FINDINGS.to_json()
    rows = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))["findings"]
    assert rows[1] | {"value": None, "stderr": None, "resolved": False} == rows[1]
    assert Findings.from_json(text) == FINDINGS
    assert [finding.resolved for finding in FINDINGS] == [True, False, True, True]
    with jax.enable_x64(False):  # whatever the settings
        assert Findings.from_json(text) == FINDINGS


def test_findings_are_reached_by_name_and_by_its_parts():
    assert FINDINGS["crossing/exact/8"] is FINDINGS["crossing", "exact", 8]
    assert ("crossing", "exact", 16) in FINDINGS and "crossing" not in FINDINGS
    assert [f.name for f in FINDINGS.select("crossing", "exact", 1)] == ["crossing/exact/1"]
    assert FINDINGS.curve("crossing", "exact").value.shape == (3,)
    with pytest.raises(KeyError, match="no finding 'crossings'; there are: crossing/exact/8"):
        FINDINGS["crossings"]
    with pytest.raises(KeyError, match="no finding begins with 'chi'"):
        FINDINGS.curve("chi")


def test_points_of_a_curve_are_named_by_where_they_are():
    values = estimate([1.0, 2.0], [0.1, 0.2])
    found = Findings(curve_findings(("chi", "exact"), np.asarray([0.05, 0.5], np.float32), values, "measured", "1"))
    assert [f.name for f in found] == ["chi/exact/0.05", "chi/exact/0.5"]
    np.testing.assert_array_equal(found.curve("chi").value, values.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Finding("", estimate(1, 1), "measured", ""), "give a name"),
        (lambda: Finding("x", estimate([1], [1]), "measured", ""), r"has shape \(1,\): give a scalar"),
        (lambda: Findings([FINDINGS["crossing/exact/8"]] * 2), "two findings are named 'crossing/exact/8'"),
        (lambda: Findings.from_json("[1]"), "these are not findings"),
        (lambda: Findings.from_json("[" * 100_000), "these are not findings"),
        (lambda: Table(("a", "b"), (("1",),)), "a row of 1 cells below a header of 2"),
    ],
)
def test_impossible_findings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("value", "stderr", "text"),
    [
        (0.468, 0.0041, "0.4680 +- 0.0041"),
        (-0.0004, 0.0012, "-0.0004 +- 0.0012"),
        (-0.00004, 0.0012, "0.0000 +- 0.0012"),  # no minus zero
        (1.0, 0.0996, "1.00 +- 0.10"),  # two digits of the error after rounding
        (1234.5, 123.0, "1230 +- 120"),
        (12.3, 45.0, "12 +- 45"),
        (0.37343749999999998, 1.7e-16, "0.3734"),  # rounding is no error
        (0.775, 0.0, "0.7750"),
        (1.2345e-5, 0.0, "1.234e-05"),
        (0.0, 0.0, "0.0000"),
        (1.25, math.nan, "1.2500 +- ?"),
        (math.nan, 0.1, "not resolved"),
        (-7.0, 43577936.0, "not resolved (error 4.4e+07)"),
        (-0.2, 1024.0, "not resolved (error 1.0e+03)"),
        (1.0, math.inf, "not resolved (error inf)"),
        (2.5e10, 3.1e9, "(25.0 +- 3.1)e+9"),
    ],
)
def test_a_number_is_printed_to_two_digits_of_its_error(value, stderr, text):
    assert with_error(estimate(value, stderr)) == text


def test_markdown_is_written_in_one_place():
    table = Table(("name", "value"), (("a", FINDINGS["crossing/exact/8"]), ("b", 0.123456)))
    report = Report("A title:", (table, "Examples:", "- one", "- two"), "The end.")
    assert report.markdown().splitlines() == [
        "A title:", "", "| name | value |", "| --- | --- |", "| a | 0.33 +- 0.10 |", "| b | 0.1235 |", "",
        "Examples:", "", "- one", "- two", "", "The end.",
    ]  # fmt: skip
    assert list(report.findings()) == [FINDINGS["crossing/exact/8"]]
