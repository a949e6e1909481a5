"""Grammars: random hierarchy models, their rules, strings by the hundred thousand, and chains without hierarchy.

Exact inference on them lives in `theory.inference`; nothing here knows noise.
"""
