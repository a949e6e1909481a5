"""Where a curve over noise times crosses a level, and where it peaks, with the error of the place."""
