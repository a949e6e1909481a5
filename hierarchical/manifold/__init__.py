"""Laws on sets of known dimension: spheres, linear subspaces, curves, unions of these, images of few parameters."""
