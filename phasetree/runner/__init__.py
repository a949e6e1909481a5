"""The runner: what carries out the plan of an experiment. It owns keys, cache, progress, files and errors.

Nothing of an experiment's science may live here, and no experiment imports it: another executor runs the same stages.
"""
