"""``python -m fusednn`` is the command ``fusednn``."""

import sys

from fusednn.cli import main

if __name__ == "__main__":
    sys.exit(main())
