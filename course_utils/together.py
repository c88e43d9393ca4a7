"""Data parallelism by hand: one training on any number of processes, each with its share of every batch.

    torchrun --standalone --nproc-per-node 2 -m course_utils.together FOLDER STEPS BATCH

reads FOLDER/images.pt and writes FOLDER/weights.pt. Read `train`: the share, and the mean over processes of the
gradients, are the five lines by which it differs from a loop for one process. (`DistributedDataParallel` does the same
and hides the waiting behind the backward pass.) Numbers are float64, so that no mistake can pass for rounding.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from .device import seeded
from .diffusion import cosine_schedule, draw_steps, prediction_target
from .models.unet import UNet
from .training import batch_indices


def train(images: Tensor, steps: int, batch: int, rank: int = 0, world: int = 1) -> UNet:
    """A small U-Net after so many steps on batches of this size: the same one for every number of processes."""
    schedule = cosine_schedule(1000)
    with seeded(0):
        model = UNet(tuple(images.shape[1:]), widths=(16, 32)).double()  # the same first weights everywhere
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    mine = slice(rank * batch // world, (rank + 1) * batch // world)
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)  # everyone draws the whole batch ...
        x0 = images[batch_indices(step, len(images), batch, 0, images.device)].double()
        t = draw_steps(batch, schedule.T, generator)
        noise = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
        x0, t, noise = x0[mine], t[mine], noise[mine]  # ... and works on a share of it
        output = model(schedule.add_noise(x0, t, noise), t)
        loss = (output - prediction_target(schedule, "v", x0, noise, t)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        if world > 1:
            for weight in model.parameters():
                dist.all_reduce(weight.grad)  # the sum over all processes
                weight.grad /= world
        optimizer.step()
    return model


def launch(
    images: Tensor, steps: int, batch: int, processes: int = 2, seconds: float = 180.0
) -> tuple[str, dict | None]:
    """The same in fresh processes, started by torchrun. Returns what they said, and the weights; None if they failed.

    images: (n, c, h, w) on the CPU;  batch: a multiple of `processes`.
    """
    library = str(Path(__file__).resolve().parents[1])
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([library, os.environ.get("PYTHONPATH", "")]),
    }
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    with tempfile.TemporaryDirectory() as folder:
        torch.save(images, Path(folder, "images.pt"))
        command = [*torchrun, "-m", "course_utils.together", folder, str(steps), str(batch)]
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds)
        except subprocess.TimeoutExpired:
            return f"No answer in {seconds:.0f} seconds: may this machine connect to itself?", None
        weights = Path(folder, "weights.pt")
        if done.returncode or not weights.exists():
            return done.stderr.strip()[-500:], None
        return done.stdout.strip(), torch.load(weights, weights_only=True)


def main(folder: str, steps: str, batch: str) -> None:
    """What each process does: find out which one it is, train, and let the first one save."""
    dist.init_process_group("gloo")  # "nccl" between GPUs
    rank, world = dist.get_rank(), dist.get_world_size()
    images = torch.load(Path(folder, "images.pt"), weights_only=True)
    model = train(images, int(steps), int(batch), rank, world)
    # In one piece, end of line included: all processes write to the same place.
    sys.stdout.write(f"process {rank} of {world}: {steps} steps on {int(batch) // world} of {batch} images each\n")
    if rank == 0:
        torch.save(model.state_dict(), Path(folder, "weights.pt"))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
