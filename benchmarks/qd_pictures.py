"""What the autoencoder of pictures costs: the compiled loop that TAXONS and STAX use, beside torch's own layers.

Both have the same parameters and the same batch of pictures, as bytes. They take turns on one thread, and the medians
of the CPU time of a picture are compared: a step of learning (gradient and Adam), redrawing, which gives surprise, and
points alone. That both give the same errors and points is checked first.

    cairn bench qd_pictures             # about a minute
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import torch
from torch import nn

import cairn.benchmarks.tables as tables
from cairn.qd import ImageDescriptor
from cairn.qd.images import networks, prepared

BATCH = 128


def turns(steps: dict[str, dict[str, Callable[[], object]]], times: int) -> dict[str, dict[str, float]]:
    """The median CPU milliseconds of a picture of each step's ways, which take turns."""
    taken: dict[str, dict[str, list[float]]] = {name: {way: [] for way in ways} for name, ways in steps.items()}
    for turn in range(times + 1):  # the first one warms up
        for name, ways in steps.items():
            for way, run in ways.items():
                began = time.process_time()
                run()
                if turn:
                    taken[name][way].append(1000 * (time.process_time() - began) / BATCH)
    return {name: {way: median(all_) for way, all_ in ways.items()} for name, ways in taken.items()}


def both() -> dict[str, dict[str, Callable[[], object]]]:
    """The steps by torch's layers and compiled.

    Raises:
        SystemExit: They do not give the same.
    """
    frames = torch.randint(0, 256, (BATCH, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    model = ImageDescriptor(10, epochs=1, batch=BATCH, seed=0)
    torch.manual_seed(0)
    encoder, decoder = networks(10)
    optimiser = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3)

    def learned() -> None:
        pictures = prepared(frames)
        optimiser.zero_grad()
        loss = (decoder(encoder(pictures)) - pictures).square().mean()
        loss.backward()
        optimiser.step()

    @torch.no_grad()
    def redrawn() -> torch.Tensor:
        pictures = prepared(frames)
        out: torch.Tensor = (decoder(encoder(pictures)) - pictures).square().flatten(1).mean(-1)
        return out

    @torch.no_grad()
    def placed(network: nn.Module = encoder) -> torch.Tensor:
        out: torch.Tensor = network(prepared(frames))
        return out

    pairs = ((placed(), model.encode(frames)), (redrawn(), model.surprise(frames)))
    if not all(torch.allclose(*pair, atol=1e-5) for pair in pairs):
        raise SystemExit("the compiled loop and torch's layers give other numbers: the comparison would not be fair")
    return {
        "learning": {"torch": learned, "compiled": lambda: model.step(frames, torch.arange(BATCH))},
        "redrawing": {"torch": redrawn, "compiled": lambda: model.surprise(frames)},
        "points": {"torch": placed, "compiled": lambda: model.encode(frames)},
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Check that both are one network, then time them in turn."""
    parser = argparse.ArgumentParser(prog="cairn bench qd_pictures", description=__doc__.partition("\n")[0])
    parser.add_argument("--times", type=int, default=15, help="timings of each, in turn")
    parser.add_argument("--out", type=Path, default=tables.RESULTS / "qd_pictures")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    facts = tables.machine()
    print(", ".join(f"{k} {v}" for k, v in facts.items()))
    cells = tables.Cells(args.out / "cells.csv", ("step",))
    for name, ways in turns(both(), args.times).items():
        if not cells.done({"step": name}):
            row = {f"{way} ms a picture": f"{ms:.3f}" for way, ms in ways.items()}
            ratio = f"{ways['torch'] / ways['compiled']:.2f}"
            cells.add({"step": name, **row, "ratio": ratio, "processor": facts["processor"], "torch": facts["torch"]})
    print("| step | torch, ms a picture | compiled | ratio |\n|---|---|---|---|")
    for cell in cells.rows():
        print(f"| {cell['step']} | {cell['torch ms a picture']} | {cell['compiled ms a picture']} | {cell['ratio']} |")


if __name__ == "__main__":
    main()
