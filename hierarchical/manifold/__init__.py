"""Laws on sets of known dimension: spheres, subspaces, curves, unions, strata, images of few parameters."""
