"""Experiments: one module each, with a frozen config, `PRESETS`, `run`, `plot` and `report`."""
