"""Track tables of published metadata: rows, padding and partners, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from published_stand_ins import TRACKS, published_text

from megabase.channels import Channels
from megabase.files import FileError
from megabase.model import Sizes
from megabase.model.sizes import PUBLISHED_CHANNELS
from megabase.predictors.metadata import is_metadata, read_metadata, track_table
from megabase.spec import TRACK_COLUMNS, OutputType, SiteClass


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [('name: "rna_seq 0"', 'name: "Padding"', "rna_seq has padding before or between its tracks"),
     ('name: "usage_1" strand: STRAND_NEGATIVE', 'name: "usage_9" strand: STRAND_NEGATIVE', "the - strand"),
     ('name: "usage_0" strand: STRAND_POSITIVE', 'name: "Padding" strand: STRAND_POSITIVE', "in each half"),
     ('name: "contact_maps 1"', 'name: "contact_maps 0"', "two contact_maps tracks are called"),
     ("nonzero_mean: 1.5", "nonzero_mean: -1", "nonzero_mean -1; wanted a positive number"),
     ("nonzero_mean: 1.5", "nonzero_mean: nan", "nonzero_mean nan"),
     ('name: "donor" strand: STRAND_POSITIVE', 'name: "donut" strand: STRAND_POSITIVE', "splice_sites are"),
     ("OUTPUT_TYPE_ATAC", "OUTPUT_TYPE_HAT", "output type 'hat' is unknown"),
     ("OUTPUT_TYPE_ATAC", "OUTPUT_TYPE_CHIP_TF", "lists chip_tf twice"),
     ('name: "atac 0" strand: STRAND_UNSTRANDED', 'name: "atac 0"', "atac track 'atac 0' has strand None"),
     ("output_metadata", "metadata", "has no output_metadata"),
     ("output_metadata {", "output_metadata {{", "line 1: found '{'")],
)  # fmt: skip
def test_broken_metadata(old: str, new: str, told: str, tmp_path: Path) -> None:
    text = published_text("human")
    assert old in text
    (tmp_path / "m.textproto").write_text(text.replace(old, new))
    with pytest.raises(FileError) as error:
        read_metadata(tmp_path / "m.textproto", "human")
    assert told in str(error.value) and str(tmp_path / "m.textproto") in str(error.value)


PUBLISHED = "portals/benchmarks/alphagenome/OutputMetadataResponse_ORGANISM_{}.textproto.gz"


@pytest.fixture(scope="module")
def published_tables(real_data: Path) -> dict[str, Any]:
    names = {"human": "HOMO_SAPIENS", "mouse": "MUS_MUSCULUS"}
    return {o: read_metadata(real_data / PUBLISHED.format(name), o) for o, name in names.items()}


def test_published_metadata_counts(published_tables: dict[str, Any]) -> None:
    wanted = {
        "human": (5930, [667, 546, 12, 305, 167, 1116, 1617, 28, 5, 734, 734]),
        "mouse": (1128, [173, 188, 0, 67, 18, 183, 127, 8, 5, 180, 180]),
    }
    for organism, (total, counts) in wanted.items():
        table = published_tables[organism]
        assert table.widths == dict(PUBLISHED_CHANNELS)
        assert [len(table.tracks.get(output, [])) for output in OutputType] == counts
        assert sum(counts) - 1 == total  # the class of no site is no track


def test_the_track_table_of_published_records(real_data: Path) -> None:
    """Channels of every bundle in order: what `import-tfrecords --table` takes."""
    path = real_data / PUBLISHED.format("MUS_MUSCULUS")
    table = track_table(path, "mouse")
    assert is_metadata(path) and not is_metadata("tracks.parquet")
    assert table.columns == list(TRACK_COLUMNS) and set(table["organism"]) == {"mouse"}
    counts = dict(table["output_type"].value_counts().iter_rows())
    assert counts["rna_seq"] == 173 and counts["contact_maps"] == 8 and "splice_sites" not in counts
    for output in ("splice_site_usage", "splice_junctions"):
        rows = table.filter(pl.col("output_type") == output)
        assert rows["strand"].to_list() == ["+"] * 90 + ["-"] * 90


def test_published_metadata_rows(published_tables: dict[str, Any]) -> None:
    human, mouse = (published_tables[organism].tracks for organism in TRACKS)
    first = dict.fromkeys(TRACK_COLUMNS) | {
        "name": "CL:0000047 polyA plus RNA-seq +", "output_type": "rna_seq", "organism": "human",
        "strand": "+", "strand_partner": 271, "ontology_curie": "CL:0000047",
        "biosample_name": "neuronal stem cell", "biosample_type": "in vitro differentiated cells",
        "life_stage": "embryonic",
        "assay": "polyA plus RNA-seq", "data_source": "encode", "nonzero_mean": 0.14361684,
    }  # fmt: skip
    assert human[OutputType.RNA_SEQ][0] == first
    assert human[OutputType.RNA_SEQ][666]["name"].startswith("UBERON:0036149 gtex Skin_Not_Sun_Exposed")
    assert human[OutputType.CHIP_TF][0]["target"] == "CTCF"
    assert human[OutputType.CHIP_HISTONE][0]["target"] == "H2AFZ"
    assert human[OutputType.PROCAP][0]["accessions"] == "ENCSR072YCM"
    assert human[OutputType.CONTACT_MAPS][27]["accessions"] == "4DNFIYGPDLKF"
    junction = mouse[OutputType.SPLICE_JUNCTIONS][90]
    assert (junction["strand"], junction["strand_partner"]) == ("-", 0)
    assert [row["name"] for row in mouse[OutputType.SPLICE_SITES]] == list(SiteClass.NAMES)


def test_published_rows_agree_with_their_names(published_tables: dict[str, Any]) -> None:
    checked = 0
    for rows in (rows for table in published_tables.values() for rows in table.tracks.values()):
        for number, row in enumerate(rows):
            partner = rows[row["strand_partner"]]
            assert partner["strand_partner"] == number
            assert (partner is row) == (row["strand"] == ".")
            assert partner["nonzero_mean"] == row["nonzero_mean"] or row["output_type"] == "splice_sites"
            if curie := re.search(r"\b(?:CL|CLO|EFO|NTR|UBERON):\d{7}\b", row["name"].replace("_", " ")):
                assert curie[0] == row["ontology_curie"]
                checked += 1
    assert checked > 6900


def test_published_tables_fit_the_published_network(published_tables: dict[str, Any]) -> None:
    tables = {organism: table.tracks for organism, table in published_tables.items()}
    channels = Channels(("human", "mouse"), tables, Sizes.preset("alphagenome").channels)
    assert channels.widths == dict(PUBLISHED_CHANNELS)
    mask = channels.mask(OutputType.SPLICE_SITE_USAGE, "mouse")
    assert mask[:90].all() and not mask[90:367].any() and mask[367:457].all() and mask.sum() == 180
    means = channels.means(OutputType.ATAC)
    assert means.shape == (2, 256) and means[0, 0] == np.float32(0.73974097) and (means[1, 18:] == 1).all()
