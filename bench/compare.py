"""What got slower between two results of bench/kernel.py, of pytest-benchmark, or of any bench with timings as JSON.

    python bench/compare.py before.json after.json [--margin 0.10]

Rows are matched by their `case` (or, in a plain list, by every entry that is no float). What is compared is the ratio
to `numpy.copyto` of the same bytes in the same run where there is one (`ratio_of_least`), which a slower or busier
machine changes little; else `seconds`, or the inverse of `curves_per_second`. Exit status 1 where a row is slower by
more than the margin.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

# the first that a row has; the last is better when larger
COSTS = ("ratio_of_least", "ratio", "least", "seconds")
RATE = "curves_per_second"


def rows_of(path: Path) -> tuple[dict[str, Any], dict[str, float]]:
    """Return (machine, cost of each row by its name)."""
    content = json.loads(path.read_text(encoding="utf-8"))
    listed = content.get("timings", content.get("rows", [])) if isinstance(content, dict) else content
    machine = content.get("machine", {}) if isinstance(content, dict) else {}
    if isinstance(content, dict) and "benchmarks" in content:  # of pytest-benchmark
        return machine, {row["name"]: float(row["stats"]["min"]) for row in content["benchmarks"]}
    return machine, {name_of(row): cost_of(row) for row in listed}


def name_of(row: dict[str, Any]) -> str:
    """Return what tells a row from others."""
    told = row.get("case", {key: value for key, value in row.items() if isinstance(value, (str, bool))})
    return ", ".join(f"{key}={value}" for key, value in told.items())


def cost_of(row: dict[str, Any]) -> float:
    """Return what is to be small."""
    for name in COSTS:
        if name in row:
            return float(row[name])
    if RATE in row:
        return 1.0 / float(row[RATE])
    raise KeyError(f"a row without any of {', '.join(COSTS)}, {RATE}: {row}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--margin", type=float, default=0.10, help="of the cost, as a share")
    arguments = parser.parse_args()
    (then, before), (now, after) = rows_of(arguments.before), rows_of(arguments.after)
    for name, machine in (("before", then), ("after", now)):
        if machine:
            told = ", ".join(f"{key} {machine[key]}" for key in ("model", "fvproc", "commit", "date") if key in machine)
            print(f"{name}: {told}")
    if then.get("model") != now.get("model"):
        print("two machines: ratios to copyto can be compared with care, times cannot")
    common = [name for name in after if name in before]
    if not common:
        print("no row is in both")
        return 1
    slower = 0
    print("\n| case | before | after | after/before | |\n|---|---|---|---|---|")
    for name in sorted(common, key=lambda key: -after[key] / before[key]):
        change = after[name] / before[name]
        word = "slower" if change > 1 + arguments.margin else "faster" if change < 1 / (1 + arguments.margin) else ""
        slower += word == "slower"
        print(f"| {name} | {before[name]:.4g} | {after[name]:.4g} | {change:.2f} | {word} |")
    missing = len(set(before) ^ set(after))
    print(
        f"\n{slower} of {len(common)} slower by more than {arguments.margin:.0%}; {missing} rows in one of the two only"
    )
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
