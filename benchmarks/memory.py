"""Memory of a training step at published size: XLSR-53 teacher, 4-layer student, ECAPA, 8 x 2 s.

    python benchmarks/memory.py [--json] [--quick]

Random weights, float32, the two-path step of `training.py`, in this process alone: the largest resident
memory (on a GPU: the largest allocation) since its start, so weights, gradients and Adam count too.
"""

import resource

import measure
import torch
from training import QUICK, Case, Trainer

CASE = Case("XLSR/4", "vox2", measure.LARGE, 4, 2.0, {"cpu": 8, "cuda": 8}, "at most 16 GB")


def largest_bytes() -> int:
    """Most memory held so far."""
    if measure.DEVICE == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB


def run(quick: bool) -> dict:
    """One row: time of a step, and the memory it took."""
    case = QUICK[0] if quick else CASE
    libraries = largest_bytes()
    trainer = Trainer(case)
    seconds = [measure.once(trainer.two_paths) for _ in range(3)]
    found = largest_bytes()
    batch = case.batch[measure.DEVICE]
    row = measure.row(f"{case.name}, batch {batch}", seconds, megabytes=found / 1e6)
    row |= {"megabytes_of_libraries": libraries / 1e6}
    # 16 GB over what was taken: at least 1 is within the target
    room = measure.comparison("16 GB over memory taken", [16e9], [float(found)], "at least 1")
    return {"rows": [row], "comparisons": [room]}


if __name__ == "__main__":
    measure.main("memory", __doc__, run)
