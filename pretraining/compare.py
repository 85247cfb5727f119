"""Compare objectives at equal numbers of steps: `python -m pretraining.compare --out FOLDER`.

Each is judged on families of textures and kinds of defects that it was not trained on (`train --held-out`).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from safetensors import safe_open

from pretraining.objectives import OBJECTIVES
from pretraining.statistics import Standard
from pretraining.trunk import build_trunk
from pretraining.validation import judge, validate, validation_episodes


def main() -> None:
    """Train each objective in a process of its own, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    statistics, trunk = Standard(), build_trunk(0).to(options.device)
    rows: dict[str, dict[str, float]] = {"(plain statistics)": {}, "(untrained)": {}}
    for kind, episodes in validation_episodes(held_out=True).items():
        plain = judge(lambda pictures: [statistics(pictures)], episodes)
        untrained = validate(trunk, episodes, options.device)
        for row, found in zip(rows.values(), (plain, untrained), strict=True):
            row |= {f"{kind}, {name}": value for name, value in found.items()}
    for name in OBJECTIVES:
        out = options.out / name
        shared = ["--steps", str(options.steps), "--threads", str(options.threads), "--device", options.device]
        file = out / "robis_vit_tiny.safetensors"
        if not file.exists():
            command = [sys.executable, "-m", "pretraining.train", "--out", str(out), "--objective", name]
            subprocess.run([*command, "--held-out", *shared], check=True)
        with safe_open(file, framework="pt") as stream:
            rows[name] = json.loads(stream.metadata()["log"])[-1]
    measures = ["minutes", *rows["(untrained)"]]
    print("| objective | " + " | ".join(measures) + " |")
    print("| --- " * (len(measures) + 1) + "|")
    for name, row in rows.items():
        cells = [f"{row[m]:.3f}" if m != "minutes" else f"{row.get(m, 0):.0f}" for m in measures]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
