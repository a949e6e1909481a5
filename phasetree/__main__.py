"""`python -m phasetree` is the command `phasetree`."""

import sys

from phasetree.cli import main

if __name__ == "__main__":
    sys.exit(main())
