"""Memorisation: what a model has copied from its training set."""

from .copies import is_copy as is_copy
