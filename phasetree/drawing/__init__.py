"""How results look: one figure style, one palette, and one way to write a number with its error."""
