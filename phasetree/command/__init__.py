"""What surrounds a run on the command line: options, settings, interruption, output, and how failures are reported.

Nothing here knows an experiment, and no experiment knows this room: from Python, experiments are called without it.
"""
