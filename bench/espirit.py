"""Seconds for the sensitivity maps of a batch of slices, and of sigpy for one slice, in one run; one line of JSON.

    OMP_NUM_THREADS=1 python bench/espirit.py --slices 64 --size 64 64 --coils 4 --calibration 24

Both get the Shepp-Logan phantom through birdcage coils with a little noise, other noise in each slice. Seconds are the
smallest of the repetitions. The maps are compared with sigpy's after 3,000 power iterations, outside the clock: its
100 do not suffice where the two largest eigenvalues lie close together.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable

import numpy as np
import sigpy
import sigpy.mri.app
import sigpy.mri.sim
import torch

from restill.estimation import espirit


def slices(n: int, coils: int, size: tuple[int, int], noise: float) -> np.ndarray:
    """`[n, coils, H, W]`, complex64 k-space."""
    phantom = sigpy.mri.sim.birdcage_maps((coils, *size)) * sigpy.shepp_logan(size)
    clean = sigpy.fft(phantom, axes=(-2, -1)).astype(np.complex64)
    rng = np.random.default_rng(0)
    draws = rng.standard_normal((2, n, *clean.shape), dtype=np.float32)
    return clean + noise * (draws[0] + 1j * draws[1])


def fastest(run: Callable[[], object], times: int) -> dict[str, float]:
    """The smallest of `times` durations, in seconds of the clock and of the processor."""
    clock, processor = [], []
    for _ in range(times):
        start = time.perf_counter(), time.process_time()
        run()
        clock.append(time.perf_counter() - start[0])
        processor.append(time.process_time() - start[1])
    return {"s": round(min(clock), 3), "cpu_s": round(min(processor), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=64)
    parser.add_argument("--size", type=int, nargs=2, default=(64, 64))
    parser.add_argument("--coils", type=int, default=4)
    parser.add_argument("--calibration", type=int, default=24)
    parser.add_argument("--noise", type=float, default=0.01, help="of the real and of the imaginary part")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--no-sigpy", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    width = arguments.calibration
    data = slices(arguments.slices, arguments.coils, tuple(arguments.size), arguments.noise)
    batch = torch.from_numpy(data)
    row = vars(arguments) | {"ours_batch": fastest(lambda: espirit(batch, (width, width)), arguments.repeat)}
    row["peak_GB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    if not arguments.no_sigpy:

        def reference(iterations: int) -> np.ndarray:
            make = sigpy.mri.app.EspiritCalib
            return make(data[0], calib_width=width, max_iter=iterations, show_pbar=False).run()

        row["sigpy_one"] = fastest(lambda: reference(100), arguments.repeat)
        ours, theirs = espirit(batch[:1], (width, width))[0].numpy(), reference(3_000)
        row["supports_differ"] = int(((abs(ours).sum(0) > 0) != (abs(theirs).sum(0) > 0)).sum())
        both = (abs(ours).sum(0) > 0) & (abs(theirs).sum(0) > 0)
        row["largest_difference"] = float(abs(ours - theirs)[:, both].max())
    print(json.dumps({name: round(value, 5) if isinstance(value, float) else value for name, value in row.items()}))


if __name__ == "__main__":
    main()
