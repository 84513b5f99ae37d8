"""What it takes to bring a release of the published size from the portals into shards: bytes and hours.

    python -m megabase.ingest

prints the table of docs/scaling.md. Numbers of tracks are published; what a file holds and how fast a stage
is are the constants below. Those with a command were measured by it, on one core; the others are assumptions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

BASES = {"human": 3.1e9, "mouse": 2.7e9}
WINDOW = 1 << 20
NODES = (1, 64)


@dataclass(frozen=True)
class Rate:
    """A number, its unit, and the command that measured it; empty: an assumption."""

    value: float
    unit: str
    command: str = ""


SHARDS = "python benchmarks/shards.py"
CORES = Rate(64, "cores a node")
DOWNLOAD = Rate(0.25, "GB/s a node")
PORTALS = Rate(1.0, "GB/s from all portals together, however many nodes ask")
NORMALIZE = Rate(
    5.9,
    "Mb of genome x files a second and core, of dense signal",
    "python benchmarks/tracks.py --megabases 32",
)
WRITE = Rate(143, "Mb of genome x tracks a second and core, of dense tracks (sparse: 216)", SHARDS)


@dataclass(frozen=True)
class Assay:
    """Tracks by organism (published), and assumptions: source files a track, GB a file, bytes in the store.

    stored: bytes a base and track in the shards.
    """

    name: str
    tracks: dict[str, int]
    files: float
    gigabytes: float
    stored: float


ASSAYS = (
    Assay("RNA-seq of ENCODE", {"human": 613, "mouse": 173}, 2, 0.15, 0.025),
    Assay("RNA-seq of GTEx", {"human": 54}, 300, 0.1, 0.1),
    Assay("CAGE and PRO-cap", {"human": 558, "mouse": 188}, 2, 0.02, 0.003),
    Assay("DNase and ATAC", {"human": 472, "mouse": 85}, 3, 5.0, 0.06),
    Assay("ChIP", {"human": 2733, "mouse": 310}, 1, 0.9, 0.1),
    Assay("splicing: alignments", {"human": 626, "mouse": 180}, 3, 6.0, 0),
    Assay("contact maps", {"human": 28, "mouse": 8}, 1, 12.0, 0.6),
)
SPLICE_TRACKS = {"human": 1468, "mouse": 360}  # usage and junctions; sparse tables, not stored by base


@dataclass(frozen=True)
class Totals:
    """Bytes, genome x tracks and genome x source files (Mb) of a release."""

    downloaded: float
    stored: float
    megabases: float
    sources: float
    tracks: int


def totals() -> Totals:
    """Sums over assays and organisms."""
    rows = [(assay, organism, n) for assay in ASSAYS for organism, n in assay.tracks.items()]
    stored = [(assay, organism, n) for assay, organism, n in rows if assay.stored]
    return Totals(
        downloaded=sum(n * a.files * a.gigabytes * 1e9 for a, _, n in rows),
        stored=sum(n * a.stored * BASES[o] for a, o, n in stored),
        megabases=sum(n * BASES[o] / 1e6 for _, o, n in stored),
        sources=sum(n * a.files * BASES[o] / 1e6 for a, o, n in stored),
        tracks=sum(n for _, _, n in stored) + sum(SPLICE_TRACKS.values()),
    )


def hours(nodes: int, found: Totals) -> dict[str, float]:
    """Hours of each stage on so many nodes."""
    cores = nodes * CORES.value
    return {
        "download": found.downloaded / 1e9 / min(nodes * DOWNLOAD.value, PORTALS.value) / 3600,
        "normalize": found.sources / (NORMALIZE.value * cores) / 3600,
        "write shards": found.megabases / (WRITE.value * cores) / 3600,
    }


def window_bytes() -> dict[str, float]:
    """Bytes that a window of 1,048,576 bp of all tracks of an organism takes in the store."""
    return {o: sum(a.tracks.get(o, 0) * a.stored for a in ASSAYS) * WINDOW for o in BASES}


def table() -> str:
    """The estimates as a table in Markdown, with what they rest on."""
    found = totals()
    by_nodes = [hours(nodes, found) for nodes in NODES]
    amounts = {
        "download": f"{found.downloaded / 1e12:,.0f} TB",
        "normalize": f"{found.sources / 1e6:,.1f} Tb of genome x files",
        "write shards": f"{found.stored / 1e12:,.1f} TB in {found.tracks:,} tracks",
    }
    lines = [
        "| stage | amount | " + " | ".join(f"hours on {n} node{'s' * (n > 1)}" for n in NODES) + " |",
        "|---|---|" + "---|" * len(NODES),
    ]
    for stage, amount in amounts.items():
        lines.append(f"| {stage} | {amount} | " + " | ".join(f"{h[stage]:,.1f}" for h in by_nodes) + " |")
    human, mouse = (size / 1e6 for size in window_bytes().values())
    lines.append(f"| read, a window of 1,048,576 bp | {human:,.0f} MB human, {mouse:,.0f} MB mouse | | |")
    return "\n".join([*lines, "", *_basis()])


def _basis() -> Iterator[str]:
    for name, rate in (("download", DOWNLOAD), ("portals", PORTALS), ("cores", CORES),
                       ("normalize", NORMALIZE), ("write shards", WRITE)):  # fmt: skip
        source = f"`{rate.command}`" if rate.command else "assumed"
        yield f"- {name}: {rate.value:g} {rate.unit}; {source}."
    for a in ASSAYS:
        yield (
            f"- {a.name}: {a.files:g} file{'s' * (a.files != 1)} of {a.gigabytes:g} GB a track, {a.stored:g} "
            "bytes a base and track in the store; assumed."
        )


if __name__ == "__main__":
    print(table())
