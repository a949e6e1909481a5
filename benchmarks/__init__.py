"""Benchmarks: one question per script, run as `python -m benchmarks.NAME`."""
