"""Many kills by hand:  python -m tests.trainkit.kill.trials --kills 200 [--seed 0] [--kinds full,dpo]

Prints how many were tried and from how many the run recovered exactly; ends with 1 where one did not.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.trainkit.conftest import write_data, write_model
from tests.trainkit.kill.chain import KINDS, chain, undisturbed

PER_CHAIN = 8  # kills of one run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default=",".join(KINDS))
    given = parser.parse_args()
    kinds, tried, recovered, where = given.kinds.split(","), 0, 0, Counter[str]()
    with tempfile.TemporaryDirectory(prefix="kills-") as made:
        root = Path(made)
        write_data(root / "data")
        write_model(root / "model", root / "data")
        whole = {kind: undisturbed(kind, root / "model", root / "data", root / f"whole-{kind}") for kind in kinds}
        number = 0
        while tried < given.kills:
            kind, seed = kinds[number % len(kinds)], given.seed + number
            kills = min(PER_CHAIN, given.kills - tried)
            found = chain(kind, root / "model", root / "data", root / f"{number}", whole[kind], seed=seed, kills=kills)
            number += 1
            tried += len(found.deaths)
            recovered += 0 if found.differences else len(found.deaths)
            where.update(death.partition(" ")[0] for death in found.deaths)
            told = "; ".join(found.differences) or "exactly as undisturbed"
            print(f"{kind}, seed {seed}: {len(found.deaths)} kills, {told}", flush=True)
    print(f"kill -9: {tried} tried, {recovered} recovered exactly; killed at: {dict(where.most_common())}")
    return 0 if tried == recovered else 1


if __name__ == "__main__":
    sys.exit(main())
