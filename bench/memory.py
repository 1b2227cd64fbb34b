"""Peak memory and seconds of `restill import`, `evaluate` and `sample` at growing numbers of images, as lines of JSON.

    python bench/memory.py import --size 8 --images 10000 100000 1000000
    python bench/memory.py import --size 64 --channels 3 --images 2000 10000 50000
    python bench/memory.py import --size 16 --files --images 1000 10000
    python bench/memory.py evaluate --size 8 --images 1000 4000 16000
    python bench/memory.py sample --size 8 --images 1000 4000 16000

Images are random float32 in one array, or 8-bit in PNG files. Every command runs in a process of its own, whose peak
resident memory the system reports. Networks are tiny and hardly trained: memory does not care.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

_BLOCK = 512
_TINY = (
    "network={model_channels: 8, channel_mult: [1], num_blocks: 1, attn_resolutions: []}", "teacher.images=64",
    "teacher.batch_size=16", "student.images=64", "student.batch_size=16", "student.select_every=64",
    "student.select_samples=16", "sampling.num_steps=2", "corruption={kind: noise, sigma_n: 0.2}",
)  # fmt: skip


def write_array(path: Path, shape: tuple[int, ...]) -> Path:
    """Random images with a level each, written in blocks; not mapped, for a child's peak begins at its parent's."""
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        for k in range(0, shape[0], _BLOCK):
            some = (min(_BLOCK, shape[0] - k), *shape[1:])
            level = rng.uniform(50, 200, (some[0], *[1] * (len(shape) - 1)))
            file.write((level + 20 * rng.standard_normal(some, dtype=np.float32)).astype("<f4").tobytes())
    return path


def write_files(folder: Path, shape: tuple[int, ...]) -> Path:
    """The same number of PNG files, whose names have no leading zeros."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for k in range(shape[0]):
        Image.fromarray(rng.integers(0, 256, shape[1:], dtype=np.uint8)).save(folder / f"{k}.png", compress_level=0)
    return folder


def run(*words: object) -> dict[str, float]:
    """Run a command of restill; its peak resident memory in MB, and seconds."""
    start = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "restill", *map(str, words)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"restill {words[0]} failed")
    unit = 1 if sys.platform == "darwin" else 1024
    return {"peak_mb": round(usage.ru_maxrss * unit / 1e6), "seconds": round(time.monotonic() - start, 1)}


def measured(what: str, source: Path, n: int, folder: Path) -> dict[str, float]:
    """One command on `n` images."""
    if what == "import":
        return run("import", source, "--sigma-n", 20, "--layout", layout(source), "--out", folder / "store")
    settings = [f"data.source={source}", *_TINY, f"evaluation.samples={n}"]
    options = [word for setting in settings for word in ("--set", setting)]
    run("run", "digits-noise", "--out", folder / "run", *options)
    if what == "sample":
        return run("sample", folder / "run", "-n", n, "--out", folder / "samples")
    (folder / "run" / "metrics.json").unlink()
    return run("evaluate", folder / "run")


def layout(source: Path) -> str:
    """Of arrays whose sides may be small."""
    if source.is_dir():
        return "auto"
    return "NHW" if np.load(source, mmap_mode="r", allow_pickle=False).ndim == 3 else "NHWC"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["import", "evaluate", "sample"])
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--size", type=int, default=8)
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--files", action="store_true", help="PNG files, not an array")
    arguments = parser.parse_args()
    for n in arguments.images:
        shape = (n, arguments.size, arguments.size, *([arguments.channels] if arguments.channels > 1 else []))
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            source = write_files(folder / "a", shape) if arguments.files else write_array(folder / "a.npy", shape)
            row: dict[str, Any] = {"what": arguments.what, "images": n, "shape": shape[1:]}
            print(json.dumps(row | measured(arguments.what, source, n, folder)), flush=True)


if __name__ == "__main__":
    main()
