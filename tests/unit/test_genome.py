"""Genome store, names and intervals."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from megabase import genome as genome_module
from megabase.files import FileError
from megabase.genome import LONG, Genome, Interval, prepare_genome
from megabase.seeds import generator
from megabase.sequence import decode, encode

RECORDS = {"chr1": "ACGTNacgtRYK" * 7 + "A", "chr2": "TTTTT", "chrM": "GATTACA"}


def write_fasta(path: Path, records: dict[str, str], width: int = 10) -> Path:
    lines = []
    for name, bases in records.items():
        lines += [f">{name} some description", *(bases[i : i + width] for i in range(0, len(bases), width))]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def store(tmp_path: Path) -> Genome:
    fasta = write_fasta(tmp_path / "toy.fa", RECORDS)
    return prepare_genome(fasta, tmp_path / "store", organism="toy", name="toy1")


def test_every_base_comes_back_and_only_acgt_is_known(store: Genome) -> None:
    assert list(store.lengths) == list(RECORDS)
    for chrom, bases in RECORDS.items():
        codes = store.codes(chrom, 0, len(bases))
        assert codes.dtype == np.uint8
        assert decode(codes) == "".join(b.upper() if b in "ACGTacgt" else "N" for b in bases)


@given(start=st.integers(-50, 150), length=st.integers(0, 200))
def test_any_stretch_equals_slicing_the_padded_chromosome(
    tmp_path_factory: pytest.TempPathFactory, start: int, length: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / "any_stretch"
    if not folder.exists():
        fasta = write_fasta(tmp_path_factory.getbasetemp() / "any.fa", RECORDS)
        prepare_genome(fasta, folder, organism="toy", name="toy1")
    padded = np.concatenate([np.full(400, 4, np.uint8), encode(RECORDS["chr1"]), np.full(400, 4, np.uint8)])
    found = Genome.open(folder).codes("chr1", start, start + length)
    np.testing.assert_array_equal(found, padded[400 + start : 400 + start + length])


@pytest.mark.parametrize("packed", ["gzip", "bgzip"])
def test_compressed_fasta_gives_the_same_bytes(tmp_path: Path, packed: str, store: Genome) -> None:
    plain = (tmp_path / "toy.fa").read_bytes()
    path = tmp_path / "toy.fa.gz"
    if packed == "gzip":
        path.write_bytes(gzip.compress(plain))
    else:
        import pysam

        with pysam.BGZFile(str(path), "wb") as handle:
            handle.write(plain)
    other = prepare_genome(path, tmp_path / "other", organism="toy", name="toy1")
    assert (other.folder / "sequence.u8").read_bytes() == (store.folder / "sequence.u8").read_bytes()


def test_blocks_do_not_change_the_result(tmp_path: Path, store: Genome, monkeypatch) -> None:
    monkeypatch.setattr(genome_module, "BLOCK", 7)
    other = prepare_genome(tmp_path / "toy.fa", tmp_path / "small", organism="toy", name="toy1")
    for name in ("sequence.u8", "sequence.json"):
        assert (other.folder / name).read_bytes() == (store.folder / name).read_bytes()


def test_codes_are_a_copy_and_pickling_reopens_the_file(store: Genome) -> None:
    store.codes("chr2", 0, 5)[:] = 0
    data = pickle.dumps(store)
    assert len(data) < 500
    assert decode(pickle.loads(data).codes("chr2", -1, 6)) == "NTTTTTN"


def test_names_are_resolved_by_alias_and_never_guessed(tmp_path: Path) -> None:
    fasta = write_fasta(tmp_path / "a.fa", {"chr1": "ACGT", "2": "ACGT", "chrM": "AC", "chrIV": "ACGT"})
    table = tmp_path / "aliases.tsv"
    table.write_text("# other\tFASTA\nNC_000001.11\tchr1\nCM000663.2\tchr1\n")
    store = prepare_genome(fasta, tmp_path / "s", organism="toy", name="toy", aliases=table)
    wanted = {
        "chr1": "chr1", "1": "chr1", "NC_000001.11": "chr1", "CM000663.2": "chr1", "2": "2", "chr2": "2",
        "MT": "chrM", "M": "chrM", "IV": "chrIV", "4": None, "chr4": None, "CHR1": None, "": None,
    }  # fmt: skip
    assert store.resolve_names(wanted) == wanted


def test_an_ambiguous_name_is_an_error(tmp_path: Path) -> None:
    fasta = write_fasta(tmp_path / "a.fa", {"chrM": "ACGT", "MT": "ACGA"})
    store = prepare_genome(fasta, tmp_path / "s", organism="toy", name="toy")
    assert store.resolve("MT") == "MT"
    with pytest.raises(ValueError, match=r"'M' is ambiguous .*\['MT', 'chrM'\]"):
        store.resolve("M")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("onlyone\n", "line 1: found 'onlyone'"),
        ("x\tchr9\n", "line 1: 'chr9' is not in the FASTA; it has chr1, chr2, chrM"),
        ("x\tchr1\nx\tchr2\n", "line 2: 'x' already stands for chr1, not chr2"),
        ("chr1\tchr2\n", "line 1: 'chr1' already stands for chr1, not chr2"),
    ],
)
def test_a_wrong_alias_table_stops(tmp_path: Path, text: str, message: str) -> None:
    fasta = write_fasta(tmp_path / "a.fa", RECORDS)
    (tmp_path / "t.tsv").write_text(text)
    with pytest.raises(FileError, match=message):
        prepare_genome(fasta, tmp_path / "s", organism="toy", name="toy", aliases=tmp_path / "t.tsv")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a FASTA that can be indexed"),
        (b"ACGTACGT\n", "not a FASTA that can be indexed"),
        (b">a\nACGT\n>a\nACGT\n", "not a FASTA that can be indexed"),
        (b">a\nAC\nACGT\nAC\nACGT\n", "not a FASTA that can be indexed"),
        (gzip.compress(b">a\n" + b"ACGT" * 500 + b"\n", mtime=0)[:-12], "cannot be decompressed"),
    ],
)
def test_a_broken_fasta_stops_and_leaves_nothing(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "bad.fa"
    path.write_bytes(data)
    with pytest.raises(FileError, match=message):
        prepare_genome(path, tmp_path / "s", organism="toy", name="toy")
    assert not (tmp_path / "s" / "sequence.json").exists()


def test_a_cut_short_store_is_refused(store: Genome) -> None:
    codes = store.folder / "sequence.u8"
    codes.write_bytes(codes.read_bytes()[:-1])
    with pytest.raises(FileError, match="96 bytes, wanted 97"):
        Genome.open(store.folder)
    with pytest.raises(FileError, match="prepare-genome"):
        Genome.open(store.folder / "nowhere")


def _mapped() -> int:
    """Bytes of files that this process has mapped into its memory."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("RssFile"))
    return int(line.split()[1]) * 1024


def test_long_stretches_are_read_and_not_mapped(tmp_path: Path) -> None:
    """Who goes over the whole genome does not end with all of it in memory."""
    length = 24 << 20
    text = np.frombuffer(b"ACGTN", np.uint8)[generator(0, "long").integers(0, 5, length)]
    (tmp_path / "g.fa").write_bytes(b">chr1\n" + text.tobytes() + b"\n")
    prepare_genome(tmp_path / "g.fa", tmp_path / "g", organism="human", name="long")
    genome = Genome.open(tmp_path / "g")
    wanted = encode(text.tobytes().decode())
    before = _mapped()
    for start in range(-LONG, length, 2 * LONG):
        found = genome.codes("chr1", start, start + 2 * LONG)
        low, high = max(start, 0), min(start + 2 * LONG, length)
        np.testing.assert_array_equal(found[low - start : high - start], wanted[low:high])
        assert (found[: low - start] == 4).all() and (found[high - start :] == 4).all()
    assert _mapped() - before < length // 4
    found[0] = 1  # a copy, which may be written to
    (tmp_path / "g" / "sequence.u8").write_bytes(b"\0" * LONG)
    with pytest.raises(FileError, match="cut short while it is read"):
        genome.codes("chr1", 0, 4 * LONG)


def test_unknown_chromosome_is_named(store: Genome) -> None:
    with pytest.raises(ValueError, match="no chromosome '1'; it has chr1, chr2, chrM"):
        store.codes("1", 0, 5)


def test_interval_arithmetic() -> None:
    one = Interval("chr1", 10, 11, "+")
    assert (one.length, one.center) == (1, 10)
    assert one.resize(4) == Interval("chr1", 8, 12, "+")
    assert one.resize(5) == Interval("chr1", 8, 13, "+")
    assert one.resize(4).resize(1) == one
    assert one.shift(-20) == Interval("chr1", -10, -9, "+")
    assert one.overlaps(Interval("chr1", 0, 11)) and not one.overlaps(Interval("chr1", 0, 10))
    assert not one.overlaps(Interval("chr1", 11, 12)) and not one.overlaps(Interval("chr2", 0, 20))
    with pytest.raises(ValueError, match="ends before it starts"):
        Interval("chr1", 5, 4)
    with pytest.raises(ValueError, match="strand 'x'"):
        Interval("chr1", 5, 6, "x")


@pytest.mark.parametrize(("name", "bases"), [("human_tiny", 55 * 131_072), ("yeast", 12_071_326)])
def test_real_genomes(tmp_path: Path, real_data: Path, name: str, bases: int) -> None:
    store = prepare_genome(real_data / name / "genome.fa", tmp_path, organism="x", name=name)
    sizes = [line.split() for line in (real_data / name / "chrom.sizes").read_text().splitlines()]
    assert {chrom: int(size) for chrom, size in sizes} == store.lengths
    assert sum(store.lengths.values()) == bases
    chrom = next(iter(store.lengths))
    first = "".join((real_data / name / "genome.fa").read_text()[:5000].split("\n")[1:20])
    assert decode(store.codes(chrom, 0, len(first))) == first.upper()
