"""The training loop that most repositories on this dataset have: what `train_throughput` is compared against.

It knows nothing of this project, and runs in a process of its own with torch as it comes: no pins, no determinism.
For each line on standard input (a number of steps) it prints the images a second of so many steps.

    echo 10 | python bench/user_loop.py data/raw/Training --size 64 --batch-size 32 --most 2000
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator

import torch
from torch.nn import functional as F
from torchvision import datasets, transforms
from torchvision.models import resnet50

CORES = len(os.sched_getaffinity(0))
PREFETCH = 2  # batches a worker holds ready: torch's default


def pictures(folder: str, size: int, most: int) -> torch.utils.data.Dataset:
    """Return an ImageFolder with the augmentation of the default study, image by image; every n-th file of all."""
    change = transforms.Compose(
        [
            transforms.Resize((size, size)),
            transforms.RandomHorizontalFlip(),
            transforms.RandomAffine(10, (0.05, 0.05), (0.9, 1.1)),
            transforms.ColorJitter(brightness=0.1, contrast=0.1),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    found = datasets.ImageFolder(folder, change)
    return torch.utils.data.Subset(found, range(0, len(found), max(1, len(found) // most)))


def steps(folder: str, size: int, batch_size: int, most: int, device: torch.device) -> Iterator[None]:
    """Train; each `next` is one step."""
    loader = torch.utils.data.DataLoader(
        pictures(folder, size, most),
        batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=CORES,
        prefetch_factor=PREFETCH,
        pin_memory=device.type == "cuda",
        persistent_workers=True,
    )
    model = resnet50(num_classes=4).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    while True:
        for x, y in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x.to(device)), y.to(device))
            loss.backward()
            optimizer.step()
            loss.item()
            yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--most", type=int, required=True)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    run = steps(args.folder, args.size, args.batch_size, args.most, torch.device(args.device))
    for line in sys.stdin:
        for _ in range(1 + PREFETCH * CORES):  # batches that were made while this process waited do not count
            next(run)
        begun = time.perf_counter()
        for _ in range(int(line)):
            next(run)
        print(int(line) * args.batch_size / (time.perf_counter() - begun), flush=True)


if __name__ == "__main__":
    main()
