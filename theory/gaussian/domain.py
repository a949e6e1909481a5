"""Ranges in which formulas of Gaussian laws hold: numbers outside them are refused by name."""

import math

Number = float | int


def check_points(num_points: Number) -> None:
    if not 1 < num_points < math.inf:
        raise ValueError(
            f"num_points = {num_points}: a collapse needs at least 2 points to choose from, and finitely many"
        )


def check_cluster(dimension: int, variance: Number) -> None:
    if dimension < 1 or not 0 < variance < math.inf:
        raise ValueError(f"dimension = {dimension}, variance = {variance}: give d >= 1, a positive finite variance")
