"""`python -m hub` is the command `hub`, for machines where the script is not on the path."""

import sys

from hub.cli import main

if __name__ == "__main__":
    sys.exit(main())
