"""bigWig intervals as arrays: equal to pyBigWig's, whatever the kind of block; damage is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyBigWig
import pytest
from track_stand_ins import random_signal, write_bigwig

from megabase.files import FileError
from megabase.tracks.decode import BigWigFile

LENGTH = 60_000


def _write(path: Path, kind: str) -> Path:
    draws = np.random.default_rng(3)
    file = pyBigWig.open(str(path), "w")
    file.addHeader([("chr1", LENGTH), ("chr2", LENGTH)])
    for chrom in ("chr1", "chr2"):
        values = draws.random(4_000)
        if kind == "bedgraph":
            edges = np.sort(draws.choice(LENGTH, 8_000, replace=False))
            file.addEntries([chrom] * 4_000, edges[::2], ends=edges[1::2], values=values)
        elif kind == "variable step":
            starts = np.sort(draws.choice(LENGTH // 3 - 1, 4_000, replace=False)) * 3
            file.addEntries(chrom, starts, values=values, span=2)
        else:
            file.addEntries(chrom, 100, values=values, span=5, step=7)
    file.close()
    return path


@pytest.mark.parametrize("kind", ["bedgraph", "variable step", "fixed step"])
def test_intervals_are_those_of_pybigwig(tmp_path: Path, kind: str) -> None:
    path = _write(tmp_path / "x.bw", kind)
    ours = BigWigFile(path)
    draws = np.random.default_rng(5)
    with pyBigWig.open(str(path)) as theirs:
        assert ours.chroms == theirs.chroms()
        for start, end in [(0, LENGTH), *np.sort(draws.integers(0, LENGTH, (30, 2)), axis=1).tolist()]:
            if start < end:
                for chrom in ours.chroms:
                    starts, ends, values = ours.intervals(chrom, start, end)
                    found = list(zip(starts.tolist(), ends.tolist(), values.tolist(), strict=True))
                    assert found == list(theirs.intervals(chrom, start, end) or ())
                    dense = np.full(end - start, np.nan, np.float32)
                    for low, high, value in zip(*ours.within(chrom, start, end), strict=True):
                        dense[low - start : high - start] = value
                    np.testing.assert_array_equal(dense, theirs.values(chrom, start, end, numpy=True))
    assert len(ours.within("nowhere", 0, 10)[0]) == 0


def test_many_chromosomes(tmp_path: Path) -> None:
    """Names and index are trees of several levels."""
    signal = {f"scaffold_{n}": np.full(10, n + 1, np.float32) for n in range(700)}
    file = BigWigFile(write_bigwig(tmp_path / "x.bw", signal))
    assert file.chroms == dict.fromkeys(signal, 10)
    assert [file.intervals(f"scaffold_{n}", 4, 5)[2].tolist() for n in range(700)] == [
        [n + 1] for n in range(700)
    ]


def test_damage_is_told_and_never_read_as_zero(tmp_path: Path) -> None:
    path = write_bigwig(tmp_path / "x.bw", random_signal("x"))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(FileError, match=r"x\.bw: .*fetch it again"):
        BigWigFile(path).intervals("chr2", 0, 5_003)
    path.write_bytes(whole[:40])
    with pytest.raises(FileError, match=r"x\.bw: cannot be opened as bigWig.*fetch it again"):
        BigWigFile(path)
    path.write_bytes((0x8789F2EB).to_bytes(4, "little") + whole[4:])
    with pytest.raises(FileError, match="is a bigBed file, wanted a bigWig"):
        BigWigFile(path)


def test_damage_inside_is_told(tmp_path: Path) -> None:
    path = write_bigwig(tmp_path / "x.bw", random_signal("bad"))
    whole = BigWigFile(path, "normalize the track again")
    data = bytearray(path.read_bytes())
    middle = int.from_bytes(data[16:24], "little") + 40
    data[middle : middle + 400] = bytes(400)
    path.write_bytes(bytes(data))
    with pytest.raises(FileError, match=r"x\.bw: damaged at chr1:0-9000 .*normalize the track again"):
        whole.within("chr1", 0, 9_000)
    with pytest.raises(FileError, match=r"absent\.bw: cannot be opened"):
        BigWigFile(tmp_path / "absent.bw")


def test_no_interval_at_all(tmp_path: Path) -> None:
    file = BigWigFile(write_bigwig(tmp_path / "x.bw", {"chr1": np.zeros(10, np.float32)}))
    assert [len(part) for part in file.intervals("chr1", 0, 10)] == [0, 0, 0]


def test_no_file_stays_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    files = [BigWigFile(write_bigwig(tmp_path / f"{n}.bw", random_signal(str(n)))) for n in range(5)]
    for file in files:
        file.intervals("chr1", 0, 9_000)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
