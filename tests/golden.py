"""Compare what the chapters say with what they said when it was last looked at.

    python -m tests.golden photos | recorded             # compares _build/executed with golden.json
    python -m tests.golden photos | recorded --write     # takes what is built for what is meant

Every value that is glued into the prose and every table is compared. ``dataset`` is the build on the published files,
``recorded`` the one from the recorded results alone; only where they differ does the file hold both.
"""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import nbformat
from bs4 import BeautifulSoup

GOLDEN = Path(__file__).with_name("golden.json")
EXECUTED = Path(__file__).resolve().parents[1] / "_build" / "executed" / "book"
#: The chapter that a machine or a moment decides: times, versions, sizes, the list of all runs.
LEFT_OUT = ("reproduce",)
#: What a processor decides, seen on two of them: in registration and in a fit, other instructions end at other bits,
#: and here and there with another neighbour or class.
OF_PROCESSOR = ("b1-provenance/twin_residual", "b1-provenance/table 3", "score-your-own/table 5")
#: Numbers that differ by less, relative to their size, are equal: another processor rounds in another order.
TOLERANCE = 1e-6
#: Where MyST keeps what is glued, as text.
_GLUED = "application/papermill.record/text/plain"


def read_build(folder: Path) -> dict[str, Any]:
    """Every glued value and every table of the executed chapters, by ``chapter/name``.

    Tables are lists of rows of texts, named by their place in the chapter: ``chapter/table 3``.
    """
    found: dict[str, Any] = {}
    for path in sorted(folder.glob("*.ipynb")):
        if path.stem in LEFT_OUT:
            continue
        tables = 0
        for cell in nbformat.read(path, as_version=4).cells:
            for output in cell.get("outputs", []):
                data = output.get("data", {})
                name = output.get("metadata", {}).get("scrapbook", {}).get("name")
                if name:
                    found[f"{path.stem}/{name}"] = _read_value(data[_GLUED])
                for table in BeautifulSoup(data.get("text/html", ""), "html.parser").find_all("table"):
                    tables += 1
                    found[f"{path.stem}/table {tables}"] = [
                        [cell.get_text(" ", strip=True) for cell in row.find_all(["th", "td"])]
                        for row in table.find_all("tr")
                    ]
    return {name: value for name, value in found.items() if name not in OF_PROCESSOR}


def compare(meant: dict[str, Any], built: dict[str, Any]) -> list[str]:
    """A line for everything that is not as it was meant."""
    lines = [f"{name} is gone" for name in meant if name not in built]
    lines += [f"{name} is new" for name in built if name not in meant]
    for name in meant.keys() & built.keys():
        if isinstance(meant[name], list) and isinstance(built[name], list):
            rows = [(a, b) for a, b in zip(meant[name], built[name], strict=False) if a != b]
            if len(meant[name]) != len(built[name]):
                lines.append(f"{name}: {len(built[name])} rows for {len(meant[name])}")
            lines += [f"{name}: {' | '.join(b)}\n{' ' * len(name)}  for {' | '.join(a)}" for a, b in rows[:5]]
        elif not _equal(meant[name], built[name]):
            lines.append(f"{name}: {built[name]!r} for {meant[name]!r}")
    return sorted(lines)


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE) or (math.isnan(a) and math.isnan(b))
    return a == b


def _read_value(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def main() -> int:
    """Compare or write; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", choices=("photos", "recorded"))
    parser.add_argument("--write", action="store_true", help="take what is built for what is meant")
    asked = parser.parse_args()
    built = read_build(EXECUTED)
    golden = json.loads(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.exists() else {"photos": {}, "recorded": {}}
    meant = golden["photos"] | (golden["recorded"] if asked.build == "recorded" else {})
    if not built:
        print(f"Nothing was compared: there are no executed chapters in {EXECUTED}; run `wbc book` first.")
        return 1
    if asked.write:
        if asked.build == "photos":
            golden["photos"] = built
        else:
            golden["recorded"] = {k: v for k, v in built.items() if not _equal(v, golden["photos"].get(k))}
        GOLDEN.write_text(json.dumps(golden, indent=0, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
        print(f"{len(built)} values and tables were written to {GOLDEN.name}.")
        return 0
    lines = compare(meant, built)
    print("\n".join(lines) or f"All {len(built)} values and tables are as they were.")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
