"""The denoiser interface, the doors by which networks enter it, how outputs are read, and the losses that train them.

Denoisers that are known exactly live in `theory.exact`.
"""
