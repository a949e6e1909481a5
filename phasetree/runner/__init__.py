"""The runner carries out the plan of an experiment. It owns keys, cache, progress, files and errors.

It contains none of an experiment's science, and no experiment imports it: another executor could run the same stages.
"""
