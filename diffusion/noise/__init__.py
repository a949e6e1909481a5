"""Noise processes: how strings and arrays are corrupted, what a corrupted one says of the clean one, and schedules.

Nothing here knows how noise is undone.
"""
