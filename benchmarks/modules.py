"""Where the time of a forward pass of the published network goes: seconds and operations by part.

    python benchmarks/modules.py --length 16384 --length 131072

The parts follow each other (encoder, tower, decoder, output embedders, heads); each is timed by itself in
every pass, and the median is told. Operations are those of `megabase/model/flops.py`, so that the rate of a
part that multiplies in fewer operations (`winograd`) is above that of a plain product.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from implementations import Job
from pairing import JUNCTIONS, PUBLISHED

from megabase.memory import keep_large_blocks
from megabase.model import AlphaGenome, Sizes
from megabase.model.flops import forward_parts
from megabase.spec import OutputType

T = TypeVar("T")
PARTS = ("encoder", "tower", "decoder", "output embedders", "heads", "units of the tracks")


def part_of(name: str) -> str:
    """The part that an entry of `forward_parts` belongs to."""
    if name.startswith(("encoder", "decoder")):
        return name.split(",")[0]
    if name.startswith("output embedder"):
        return "output embedders"
    return "heads" if name.startswith("head ") else "tower"


class Clock:
    """Seconds by part, of each pass."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.seconds: dict[str, list[float]] = defaultdict(list)

    def __call__(self, part: str, function: Callable[..., T], *args: Any) -> T:
        """function(*args), timed as `part`."""
        start = time.perf_counter()
        found = function(*args)
        if self.device != "cpu":
            torch.cuda.synchronize()
        self.seconds[part].append(time.perf_counter() - start)
        return found


@torch.inference_mode()
def one_pass(model: AlphaGenome, job: Job, clock: Clock) -> None:
    """A forward pass, part by part."""
    organism, wanted = torch.zeros(1, dtype=torch.int64, device=job.device), model.sizes.outputs()
    sequence = job.sequence().to(getattr(torch, job.precision))
    tokens, skips = clock("encoder", model.encode, sequence)
    tokens, pair = clock("tower", model.transform, tokens, organism)
    decoded = clock("decoder", model.decode, tokens, skips)
    model.decode, decode = lambda *_: decoded, model.decode
    embeddings = clock("output embedders", model.embed_outputs, tokens, pair, skips, organism, wanted)
    model.decode = decode
    sites = job.positions() if job.junctions else None
    found = clock("heads", model.predict_heads, embeddings, organism, wanted, sites)
    clock("units of the tracks", model.unscale, found, organism)


def table(model: AlphaGenome, job: Job, clock: Clock) -> str:
    """Markdown rows by part, with the sum."""
    work: dict[str, int] = defaultdict(int)
    for part in forward_parts(model.sizes, job.length, sites=job.sites):
        work[part_of(part.name)] += part.flop
    seconds = {part: statistics.median(clock.seconds[part][1:]) for part in PARTS}
    whole = sum(seconds.values())
    lines = ["| part | seconds | share | TFLOP | GFLOP/s |", "|---|---|---|---|---|"]
    for part in PARTS:
        rate = f"{work[part] / seconds[part] / 1e9:.0f}" if work[part] else "-"
        done = f"{work[part] / 1e12:.3f}" if work[part] else "-"
        lines.append(f"| {part} | {seconds[part]:.2f} | {seconds[part] / whole:.0%} | {done} | {rate} |")
    total = sum(work.values())
    lines.append(f"| together | {whole:.2f} | 100% | {total / 1e12:.3f} | {total / whole / 1e9:.0f} |")
    return "\n".join(lines)


def main() -> None:
    """Time every length and print its table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--length", type=int, action="append", help="window (bp); repeat; default 16384")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--device", default="cpu")
    options.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    options.add_argument("--preset", default="alphagenome")
    options.add_argument("--junctions", action="store_true", help="with the junction head")
    given = options.parse_args()
    names = {name: n for name, n in PUBLISHED.items() if given.junctions or name != JUNCTIONS}
    sizes = Sizes.preset(given.preset, {OutputType(name): n for name, n in names.items()}, dropout=0.0)
    model = AlphaGenome(sizes).to(given.device).eval()
    model.keep_constants()
    if given.device == "cpu":
        keep_large_blocks()
    for length in given.length or [16_384]:
        job = Job("forward", length, names, max(8, length // 2048), given.device, given.precision)
        clock = Clock(given.device)
        for _ in range(given.rounds + 1):  # the first warms up
            one_pass(model, job, clock)
        heads = "all heads" if job.junctions else "all heads but the junctions"
        print(f"{length:,} bp, {given.precision}, {heads}, {torch.get_num_threads()} threads\n")
        print(table(model, job, clock), "\n", flush=True)


if __name__ == "__main__":
    main()
