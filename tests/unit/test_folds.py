"""Windows by fold: nothing shared between training and held-out windows; balanced folds of homologs."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from megabase import balance
from megabase.balance import deal, deviation
from megabase.files import FileError, read_json, read_table
from megabase.folds import assign_folds, held_out, window_table
from megabase.genes import prepare_genes
from megabase.genome import Genome, prepare_genome
from megabase.homology import canonical_kmers, clusters, similar_pairs, sketch
from megabase.seeds import generator
from megabase.sequence import decode, encode, reverse_complement
from megabase.settings.data import FoldScheme, FoldSettings, HomologyPairs
from megabase.synteny import aligned_pairs
from megabase.variant_splits import chromosome_splits, in_splits, with_split

UNIT, WINDOW = 8192, 2048
COLUMNS = ("organism", "chrom", "start", "end", "fold")
SCHEMES = {"fold0": FoldScheme(valid=["fold0"], test=["fold1"]), "all": FoldScheme(valid=[], test=["fold2"])}


def settings(**values: object) -> FoldSettings:
    base = {"names": ["fold0", "fold1", "fold2"], "unit": UNIT, "window": WINDOW, "schemes": SCHEMES}
    return FoldSettings.model_validate(base | values)


def random_codes(length: int, *names: str | int) -> np.ndarray:
    return generator(7, *names).integers(0, 4, length).astype(np.uint8)


def write_genome(folder: Path, organism: str, chroms: dict[str, np.ndarray]) -> Path:
    fasta = folder / f"{organism}.fa"
    fasta.write_text("".join(f">{name}\n{decode(codes)}\n" for name, codes in chroms.items()))
    prepare_genome(fasta, folder / organism, organism=organism, name=organism)
    return folder / organism


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two species. Stretch 3 of a1 is copied to b1, reverse complemented and diverged by 2%; a2 ends in N."""
    folder = tmp_path_factory.mktemp("two")
    first, second = random_codes(12 * UNIT + 500, "a1"), random_codes(6 * UNIT, "a2")
    second[4 * UNIT :] = 4
    other = random_codes(7 * UNIT, "b1")
    copy = reverse_complement(first[3 * UNIT : 4 * UNIT])
    changed = generator(7, "change").random(UNIT) < 0.02
    other[2 * UNIT : 3 * UNIT] = np.where(changed, (copy + 1) % 4, copy)
    paths = [
        write_genome(folder, "a", {"a1": first, "a2": second, "tiny": random_codes(100, "t")}),
        write_genome(folder, "b", {"b1": other}),
    ]
    lines = [f'a1\tt\tgene\t{k * 900 + 1}\t{k * 900 + 90}\t.\t+\t.\tgene_id "g{k}";\n' for k in range(100)]
    (folder / "g.gtf").write_text("".join(lines))
    prepare_genes(folder / "g.gtf", paths[0], paths[0] / "genes")
    return paths


def covered(table: pl.DataFrame, margin: int = 0) -> set[tuple[str, int]]:
    rows = table.select("chrom", "start", "end").iter_rows()
    return {(chrom, p) for chrom, start, end in rows for p in range(start - margin, end + margin)}


@pytest.mark.parametrize("organism", ["a", "b"])
@pytest.mark.parametrize("shift", [0, 1, 700])
@pytest.mark.parametrize(("scheme", "reserved"), [("fold0", []), ("all", ["fold2"])])
def test_no_base_is_both_trained_on_and_held_out(
    two: list[Path], tmp_path: Path, organism: str, shift: int, scheme: str, reserved: list[str]
) -> None:
    intervals = assign_folds(two, tmp_path, settings())
    train, valid, test = held_out(intervals, SCHEMES[scheme], reserved, organism, shift)
    assert train.height and test.height + valid.height
    assert not covered(train, shift) & (covered(valid) | covered(test))
    assert set(train["fold"]).isdisjoint(reserved)
    assert set(train["fold"]).isdisjoint(SCHEMES[scheme].valid + SCHEMES[scheme].test)
    assert set(test["fold"]) <= set(SCHEMES[scheme].test) and set(valid["fold"]) <= set(SCHEMES[scheme].valid)


@limits(deadline=None)  # a busy machine is not wrong
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20), st.sampled_from("tvs")), max_size=12),
       st.integers(0, 5))  # fmt: skip
def test_exactly_the_overlapping_windows_are_dropped(rows: list, shift: int) -> None:
    table = pl.DataFrame(
        [("o", "c", start, start + length, fold) for start, length, fold in rows],
        schema=dict(zip(COLUMNS, [pl.String, pl.String, pl.Int64, pl.Int64, pl.String], strict=True)),
        orient="row",
    )  # fmt: skip
    train, valid, test = held_out(table, FoldScheme(valid=["v"], test=["s"]), [], "o", shift)
    trained = covered(train, shift)
    for kept, fold in ((valid, "v"), (test, "s")):
        wanted = [r for r in table.filter(pl.col("fold") == fold).rows()
                  if not trained & {("c", p) for p in range(r[2], r[3])}]  # fmt: skip
        assert kept.rows() == wanted


def test_homologs_share_a_fold_and_folds_are_balanced(two: list[Path], tmp_path: Path) -> None:
    intervals = assign_folds(two, tmp_path, settings())
    copy_a = intervals.filter(chrom="a1").filter((pl.col("start") >= 3 * UNIT) & (pl.col("end") <= 4 * UNIT))
    copy_b = intervals.filter(chrom="b1").filter((pl.col("start") >= 2 * UNIT) & (pl.col("end") <= 3 * UNIT))
    assert copy_a.height == copy_b.height == 4
    assert len(set(copy_a["fold"]) | set(copy_b["fold"])) == 1
    summary = read_json(tmp_path / "folds.json", "folds")
    assert summary["dealt"][0]["clusters"] == summary["dealt"][0]["stretches"] - 1  # the copy and its source
    bases = [row["bases"] for row in summary["folds"] if row["organism"] == "a"]
    assert len(bases) == 3 and max(bases) / min(bases) < 1.4
    assert sum(row["genes"] for row in summary["folds"]) == 100


def test_windows_tile_their_stretches_and_n_is_left_out(two: list[Path], tmp_path: Path) -> None:
    intervals = assign_folds(two, tmp_path, settings())
    assert (intervals["end"] - intervals["start"]).unique().to_list() == [WINDOW]
    assert intervals.filter(chrom="a2")["end"].max() <= 4 * UNIT
    assert intervals.filter(chrom="tiny").is_empty()
    for _, part in intervals.partition_by("organism", "chrom", as_dict=True).items():
        assert part["start"].is_sorted() and (part["start"][1:] >= part["end"][:-1]).all()
    assert read_table(tmp_path / "intervals.parquet", "intervals").equals(intervals)


def test_same_bytes_twice(two: list[Path], tmp_path: Path) -> None:
    for name in ("one", "two"):
        assign_folds(two, tmp_path / name, settings(), seed=3)
    for file in ("intervals.parquet", "folds.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_whole_chromosomes(two: list[Path], tmp_path: Path) -> None:
    whole = settings(whole_chromosomes=True, names=["fold0", "fold1"], schemes={})
    intervals = assign_folds(two, tmp_path, whole)
    assert intervals.group_by("chrom").agg(pl.col("fold").n_unique())["fold"].to_list() == [1, 1, 1]
    with pytest.raises(FileError, match="2 homology clusters cannot fill 4 folds"):
        names = [f"fold{k}" for k in range(4)]
        assign_folds(two, tmp_path, settings(whole_chromosomes=True, names=names, schemes={}))


def test_a_unit_shorter_than_a_window_is_refused(two: list[Path], tmp_path: Path) -> None:
    with pytest.raises(FileError, match="unit 1000 is shorter than window 2048"):
        assign_folds(two, tmp_path, settings(unit=1000))


def test_published_splits_and_a_divided_label(two: list[Path], tmp_path: Path) -> None:
    one, other = tmp_path / "one.bed", tmp_path / "other.bed.gz"
    one.write_text(
        "".join(f"a1\t{k * UNIT}\t{(k + 1) * UNIT}\t{'fold2' if k == 5 else 'train'}\n" for k in range(8))
    )
    other.write_bytes(gzip.compress(b"b1\t0\t1000\ttrain\nb1\t10000\t13000\tfold2\n"))
    given_settings = settings(source="manifest", divide={"train": ["fold0", "fold1"]})
    intervals = assign_folds(two, tmp_path / "f", given_settings, splits=[one, other])
    fixed = intervals.filter(fold="fold2")
    assert fixed.filter(chrom="a1")["start"].to_list() == [5 * UNIT + k * WINDOW for k in range(4)]
    assert fixed.filter(chrom="b1").rows() == [("b", "b1", 10_476, 12_524, "fold2")]
    assert intervals.filter(chrom="a1").group_by("fold").len().sort("fold")["len"].to_list() == [
        16,
        12,
        4,
    ] or (intervals.filter(chrom="a1").group_by("fold").len().sort("fold")["len"].to_list() == [12, 16, 4])
    around = intervals.filter(chrom="b1").filter(pl.col("fold") != "fold2")
    assert around.select("start", "end").rows() == [(-524, 1524)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("zz\t0\t10\tfold0", "line 2: contig 'zz' is not in genome a"),
        ("a1\t0\t99999999\tfold0", "line 2: 0-99999999 is not a stretch of a1"),
        ("a1\t10\t10\tfold0", "line 2: 10-10 is not a stretch"),
        ("a1\t0\t10\tfold9", "line 2: fold 'fold9' is not one of"),
        ("a1\t0\t10", "line 2: found 'a1\\\\t0\\\\t10', wanted chrom"),
    ],
)
def test_a_wrong_bed_stops(two: list[Path], tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "s.bed").write_text(f"a1\t0\t{UNIT}\tfold0\n{line}\n")
    with pytest.raises(FileError, match=message):
        assign_folds(two[:1], tmp_path, settings(source="manifest"), splits=[tmp_path / "s.bed"])
    with pytest.raises(FileError, match="1 splits BEDs for 2 genomes"):
        assign_folds(two, tmp_path, settings(source="manifest"), splits=[tmp_path / "s.bed"])


def test_canonical_kmers_are_those_of_either_strand_without_n() -> None:
    codes = encode("ACGTTGCANGGATCCAAT")
    found = canonical_kmers(codes, 5)
    assert len(found) == 4 + 5
    np.testing.assert_array_equal(np.sort(found), np.sort(canonical_kmers(reverse_complement(codes), 5)))
    assert canonical_kmers(encode("AACAA"), 5)[0] == 0b0000010000
    assert canonical_kmers(encode("TTGTT"), 5)[0] == 0b0000010000
    assert len(canonical_kmers(codes[:3], 5)) == 0
    with pytest.raises(ValueError, match="wanted 1 to 31"):
        canonical_kmers(codes, 32)


def test_sketches_estimate_shared_kmers() -> None:
    codes = random_codes(60_000, "sketch")
    half = np.concatenate([random_codes(30_000, "new"), codes[30_000:]])
    unrelated = random_codes(60_000, "unrelated")
    sketches = [sketch(c, 21, 32) for c in (codes, half, unrelated)]
    assert all(abs(len(s) * 32 / 60_000 - 1) < 0.1 for s in sketches)
    shared = len(np.intersect1d(sketches[0], sketches[1])) / len(sketches[0])
    assert abs(shared - 0.5) < 0.06
    np.testing.assert_array_equal(similar_pairs(sketches, 0.3), [[0, 1]])
    assert len(similar_pairs(sketches, 0.7)) == 0
    assert similar_pairs([], 0.1).shape == (0, 2)


def test_interspersed_repeats_join_nothing() -> None:
    repeat = random_codes(3_000, "repeat")
    stretches = [np.concatenate([random_codes(3_000, k), repeat]) for k in range(70)]
    assert len(similar_pairs([sketch(c, 15, 4) for c in stretches], 0.1)) == 0
    assert len(similar_pairs([sketch(c, 15, 4) for c in stretches[:20]], 0.1)) == 190


def test_clusters_are_joined_whole_and_numbered_in_order() -> None:
    pairs = np.array([[1, 4], [4, 5], [0, 2]])
    assert clusters(6, pairs).tolist() == [0, 1, 0, 2, 1, 1]
    assert clusters(3, np.zeros((0, 2), dtype=np.int64)).tolist() == [0, 1, 2]


@pytest.mark.parametrize(("count", "folds"), [(7, 3), (30, 4), (900, 8)])
def test_deals_are_balanced_complete_and_repeatable(count: int, folds: int) -> None:
    loads = generator(1, "deal", count).gamma(2.0, size=(count, 3))
    weights = np.array([1.0, 0.5, 0.5])
    fold = deal(loads, folds, weights=weights, seed=0, time_limit=20)
    assert set(fold) == set(range(folds)) and len(fold) == count
    np.testing.assert_array_equal(fold, deal(loads, folds, weights=weights, seed=0, time_limit=20))
    found = deviation(loads / loads.sum(axis=0), fold, folds, weights)
    assert found <= {7: 0.5, 30: 0.1, 900: 0.03}[count]


def test_the_program_finds_the_best_deal() -> None:
    """Six clusters split evenly only as {8, 1, 1} and {5, 3, 2}."""
    loads = np.array([[8.0], [5], [3], [2], [1], [1]])
    fold = deal(loads, 2, weights=np.ones(1), seed=0, time_limit=20)
    assert np.bincount(fold, weights=loads[:, 0]).tolist() == [10, 10]
    start = np.array([0, 1, 0, 1, 1, 1])
    solved = balance._solve(loads / 20, 2, np.ones(1), start, 0, 20)
    assert (
        deviation(loads / 20, solved, 2, np.ones(1))
        < 1e-9
        < deviation(loads / 20, start, 2, np.ones(1)) - 1e-9
    )


ALL = {  # section 3.6: all validation and test windows, before those that touch a training window go
    "human": [(7090, 6713), (6888, 6910), (6526, 6994), (7363, 7013)],
    "mouse": [(6173, 6196), (6101, 6318), (6375, 6008), (6037, 6161)],
}


@pytest.mark.parametrize(
    ("organism", "kept"),
    [
        ("human", [(41694, 6461, 6094), (41699, 6323, 6359), (41977, 5890, 6387), (41121, 6909, 6359)]),
        ("mouse", [(37000, 5559, 5335), (36950, 5466, 5587), (36986, 5489, 5461), (37171, 5611, 5488)]),
    ],
)
def test_published_windows_give_the_published_counts(
    real_data: Path, root: Path, organism: str, kept: list
) -> None:
    """1 Mb windows around Borzoi's 196,608 bp intervals under the four published schemes of the config."""
    folds = yaml.safe_load((root / "config/alphagenome.yaml").read_text())["folds"]
    published = FoldSettings.model_validate(folds)
    bed = pl.read_csv(
        real_data / "folds" / f"borzoi.sequences_{organism}.bed.gz",
        separator="\t", has_header=False, new_columns=["chrom", "start", "end", "fold"],
    ).with_columns(organism=pl.lit(organism))  # fmt: skip
    windows = window_table(bed, published.window)
    assert windows.height == bed.height == {"human": 55_497, "mouse": 49_369}[organism]
    for number, wanted in enumerate(kept):
        scheme = published.schemes[f"fold{number}"]
        found = held_out(windows, scheme, published.reserved, organism)
        assert tuple(part.height for part in found) == wanted
        before = [windows.filter(pl.col("fold").is_in(names)).height for names in (scheme.valid, scheme.test)]
        assert tuple(before) == ALL[organism][number]
        assert wanted[0] + sum(before) == windows.height
    train, valid, test = held_out(windows, published.schemes["all"], published.reserved, organism)
    assert (train.height, valid.height, test.height) == (windows.height, 0, 0)


@pytest.fixture(scope="module")
def diverged(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two species of 12 stretches; a copy of stretches 1, 4, 7 of a in b, diverged by 10, 20 and 30%."""
    folder, unit = tmp_path_factory.mktemp("diverged"), 131_072
    first, second = random_codes(12 * unit, "one"), random_codes(12 * unit, "other")
    for stretch, rate in ((1, 0.1), (4, 0.2), (7, 0.3)):
        copy = first[stretch * unit : (stretch + 1) * unit]
        changed = generator(7, "rate", stretch).random(unit) < rate
        shifted = (copy + generator(7, "base", stretch).integers(1, 4, unit)) % 4
        place = slice((11 - stretch) * unit, (12 - stretch) * unit)
        second[place] = reverse_complement(np.where(changed, shifted, copy).astype(np.uint8))
    return [write_genome(folder, "a", {"a1": first}), write_genome(folder, "b", {"b1": second})]


def _stretch_folds(intervals: pl.DataFrame, organism: str, stretch: int) -> set[str]:
    unit = 131_072
    here = intervals.filter(pl.col("organism") == organism).filter(
        (pl.col("start") >= stretch * unit) & (pl.col("end") <= (stretch + 1) * unit)
    )
    return set(here["fold"])


def test_what_k_mers_find_and_what_a_table_tells(diverged: list[Path], tmp_path: Path) -> None:
    unit = 131_072
    plain = FoldSettings.model_validate({"schemes": {}, "unit": unit, "window": 16_384})
    assign_folds(diverged, tmp_path / "plain", plain)
    found = read_json(tmp_path / "plain" / "folds.json", "folds")["dealt"][0]
    assert found["stretches"] - found["clusters"] == 1  # 10% alone

    table = tmp_path / "pairs.bedpe"
    rows = [
        f"a1\t{k * unit}\t{(k + 1) * unit}\tb1\t{(11 - k) * unit}\t{(12 - k) * unit}\t-\n" for k in (4, 7)
    ]
    table.write_text("#chrom\n" + "".join(rows) + "other\t0\t5\tb1\t0\t5\n")
    pairs = [{"first": "a", "second": "b", "path": str(table)}]
    told = FoldSettings.model_validate(plain.model_dump() | {"homology_pairs": pairs})
    intervals = assign_folds(diverged, tmp_path / "told", told)
    found = read_json(tmp_path / "told" / "folds.json", "folds")["dealt"][0]
    assert found["stretches"] - found["clusters"] == 3
    for stretch in (1, 4, 7):
        folds = _stretch_folds(intervals, "a", stretch) | _stretch_folds(intervals, "b", 11 - stretch)
        assert len(folds) == 1


def test_aligned_pairs_are_mapped_base_by_base(tmp_path: Path) -> None:
    """A row over several stretches pairs those that lie opposite each other, on either strand."""
    rows = [("a", "a1", k * 100, (k + 1) * 100) for k in range(4)]
    rows += [("b", "b1", k * 100, (k + 1) * 100) for k in range(4)]
    stretches = pl.DataFrame(rows, schema=["organism", "chrom", "start", "end"], orient="row")
    pairs = HomologyPairs(first="a", second="b", path="x")
    whole = [(("a1", 0, 400), ("b1", 0, 400), False)]
    assert aligned_pairs(stretches, pairs, whole, 0.1).tolist() == [[k, k + 4] for k in range(4)]
    turned = [(("a1", 0, 400), ("b1", 0, 400), True)]
    assert aligned_pairs(stretches, pairs, turned, 0.1).tolist() == [[k, 7 - k] for k in range(4)]
    part = [(("a1", 50, 90), ("b1", 280, 320), False)]
    assert aligned_pairs(stretches, pairs, part, 0.1).tolist() == [[0, 6], [0, 7]]
    assert aligned_pairs(stretches, pairs, part, 0.2).tolist() == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a1\t0\t10\tb1\tx\t10", "line 1: found"),
        ("a1\t0\t10\tb1\t5\t99999999", "line 1: 5-99999999 is not a stretch of b1 of b"),
        ("zz\t0\t10\tb1\t5\t10", "no row is on chromosomes of both genomes"),
    ],
)
def test_a_wrong_table_of_pairs_stops(two: list[Path], tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "p").write_text(line + "\n")
    pairs = [{"first": "a", "second": "b", "path": str(tmp_path / "p")}]
    with pytest.raises(FileError, match=message):
        assign_folds(two, tmp_path, settings(homology_pairs=pairs))
    with pytest.raises(FileError, match="no genome of 'c'"):
        assign_folds(two, tmp_path, settings(homology_pairs=[pairs[0] | {"second": "c"}]))


def test_variants_are_split_by_chromosome(tmp_path: Path) -> None:
    names = [*map(str, range(1, 23)), "X", "Y"]
    human = Genome.open(write_genome(tmp_path, "h", {f"chr{c}": random_codes(50, c) for c in names}))
    published = FoldSettings(schemes={})
    zero = chromosome_splits(published, "zero_shot", human)
    assert sorted(zero.values()).count("test") == 8 and sorted(zero.values()).count("valid") == 15
    supervised = chromosome_splits(published, "supervised", human)
    assert {c for c, s in zero.items() if s == "test"} == {c for c, s in supervised.items() if s == "test"}
    assert {c for c, s in zero.items() if s == "valid"} == {c for c, s in supervised.items() if s != "test"}
    assert supervised["chr1"] == "train" and supervised["chrX"] == "valid" and zero["chr3"] == "test"
    variants = pl.DataFrame({"chrom": ["chr3", "chr1", "chrY", "chr21"], "position": [1, 2, 3, 4]})
    assert with_split(variants, zero)["split"].to_list() == ["test", "valid", None, "test"]
    assert in_splits(variants, zero, ["test"])["position"].to_list() == [1, 4]
    with pytest.raises(ValueError, match=r"'x' is not in folds\.variant_splits: zero_shot, supervised"):
        chromosome_splits(published, "x", human)
    other = Genome.open(write_genome(tmp_path, "o", {"c": random_codes(50, "o")}))
    with pytest.raises(ValueError, match="none of its chromosomes is in genome o"):
        chromosome_splits(published, "zero_shot", other)
    with pytest.raises(ValueError, match=r"\['1'\] are in two splits"):
        FoldSettings(schemes={}, variant_splits={"mine": {"a": ["1"], "b": ["1"]}})


def test_real_folds_of_yeast(real_data: Path, tmp_path: Path) -> None:
    prepare_genome(real_data / "yeast" / "genome.fa", tmp_path / "yeast", organism="yeast", name="yeast")
    intervals = assign_folds([tmp_path / "yeast"], tmp_path, FoldSettings(schemes=SCHEMES))
    sizes = intervals.group_by("fold").len()["len"]
    assert sizes.len() == 4 and sizes.max() / sizes.min() < 1.1
    rows = read_json(tmp_path / "folds.json", "folds")["folds"]
    shares = [row["gc_share"] for row in rows]
    assert max(shares) - min(shares) < 0.005
    assert Genome.open(tmp_path / "yeast").organism == "yeast"
