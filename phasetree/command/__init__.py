"""The command line around a run: options, settings, interruption, output, and the report of failures.

Nothing here depends on an experiment, and no experiment depends on this package: Python calls experiments without it.
"""
