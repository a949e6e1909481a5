"""Noise processes: how strings and arrays are corrupted, the evidence of the noised for the clean, schedules.

Nothing here knows how noise is undone.
"""
