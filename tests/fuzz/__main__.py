"""`python -m fuzz`: random and hostile inputs, from a seed, with counts by what came of them; fails where one is wrong.

Every case follows from the seed, the part and its number, so that one alone can be run again.
"""

from __future__ import annotations

import argparse
import sys

from fuzz import PLACES, part
from fuzz.running import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"what to feed: {', '.join(PLACES)}; default: all")
    parser.add_argument("--cases", type=int, help="how many of each part (default: what `make fuzz` promises)")
    parser.add_argument("--seconds", type=float, help="stop each part after so many seconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    options = parser.parse_args()
    if odd := set(options.parts) - set(PLACES):
        parser.error(f"there is no part {', '.join(sorted(odd))}: the parts are {', '.join(PLACES)}")
    wrong = 0
    for name in options.parts or PLACES:
        asked = part(name)
        cases = options.cases or asked.cases
        print(f"{name}: {cases:,} {asked.what}, seed {options.seed}", flush=True)
        tally = run(asked, options.seed, cases, options.first, options.seconds)
        print(tally.text(), flush=True)
        wrong += len(tally.wrong)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
