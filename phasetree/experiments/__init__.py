"""Experiments: a folder each, whose module has the parts that `phasetree.experiment` describes."""
