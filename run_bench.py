"""The door: `python run_bench.py --methods mimmu salun --suite finegrained`."""

import sys

from bench.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
