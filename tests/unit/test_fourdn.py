"""4D Nucleome: what is asked, and the rows made of what the portal answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from megabase.files import FileError
from megabase.predictors.metadata import read_metadata
from megabase.settings.listing import ListingSettings
from megabase.sources import fourdn
from megabase.sources.ask import Answer
from megabase.sources.groups import track_groups
from megabase.sources.manifest import raw_path, read_manifest, write_manifest
from megabase.sources.portals import Release, list_portal
from megabase.sources.resources import read_resource

PUBLISHED = {"human": (28, "HOMO_SAPIENS"), "mouse": (8, "MUS_MUSCULUS")}
UTC = "2026-11-01T00:00:00Z"


class Portal:
    """Answers searches from a table of files by accession."""

    def __init__(self, files: Iterable[dict[str, Any]]) -> None:
        self.files = list(files)
        self.asked: list[list[tuple[str, str]]] = []
        self.total: int | None = None
        self.url = fourdn.SEARCH

    def __call__(self, url: str, params: Iterable[tuple[str, Any]] = ()) -> Answer:
        assert url == self.url
        question = list(params)
        self.asked.append(question)
        keys = {key for key, _ in question}
        hits = [
            file
            for file in self.files
            if all(
                str(file.get(key)) in [value for k, value in question if k == key]
                for key in keys & {"accession", "genome_assembly", "status"}
            )
        ]
        total = len(hits) if self.total is None else self.total
        body = {"@graph": hits, "total": total, "notification": "Success"}
        if not hits:
            body["notification"] = "No results found"
        return Answer(url, 200 if hits else 404, json.dumps(body).encode(), UTC)


def file(accession: str, **values: Any) -> dict[str, Any]:
    """A file as a search tells it."""
    uuid = f"uuid-of-{accession}"
    return {
        "accession": accession, "uuid": uuid, "status": "released", "genome_assembly": "GRCh38",
        "file_format": {"file_format": "mcool", "display_title": "mcool"}, "file_size": 8_000_000_000,
        "md5sum": "0" * 32, "open_data_url": f"{fourdn.BUCKET}/wfoutput/{uuid}/{accession}.mcool",
        "track_and_facet_info": {"experiment_type": "in situ Hi-C", "biosource_name": "H9"},
        "source_experiment_sets": [{"accession": "4DNES1"}],
    } | values  # fmt: skip


def preset() -> list[dict[str, Any]]:
    rows = read_resource("contact_maps", fourdn.PRESET)
    assemblies = {"human": "GRCh38", "mouse": "GRCm38"}
    return [file(row["accession"], genome_assembly=assemblies[row["organism"]]) for row in rows]


def test_the_preset_is_the_published_table(real_data: Path) -> None:
    rows = read_resource("contact_maps", fourdn.PRESET)
    for organism, (count, name) in PUBLISHED.items():
        path = f"portals/benchmarks/alphagenome/OutputMetadataResponse_ORGANISM_{name}.textproto.gz"
        channels = read_metadata(real_data / path, organism).tracks["contact_maps"]
        mine = [row for row in rows if row["organism"] == organism]
        assert [int(row["channel"]) for row in mine] == list(range(count))
        for row, channel in zip(mine, channels, strict=True):
            assert channel["accessions"] == row["accession"] and channel["assay"] == row["assay"]
            assert channel["biosample_name"] == row["biosample"]
            assert channel["ontology_curie"] == row["ontology_curie"]
    text = (real_data / "portals/4dn/alphagenome_contact_map_accessions.tsv").read_text().splitlines()
    names = [line.split("\t")[1].removeprefix("4dn:") for line in text[1:]]
    assert names == [row["accession"] for row in rows], "the recorded list has the same maps in this order"


def test_the_published_maps_each_a_track_of_its_own(tmp_path: Path) -> None:
    portal = Portal(preset()[::-1])
    rows = fourdn.published_maps(portal)
    assert [row["accession"] for row in rows] == [f["accession"] for f in preset()], "in channel order"
    assert len(portal.asked) == 1 and len([k for k, _ in portal.asked[0] if k == "accession"]) == 36
    assert ("limit", "all") in portal.asked[0] and not [k for k, _ in portal.asked[0] if k == "from"]
    first = rows[0]
    assert first["assay"] == "Micro-C 4DNFI9GMP2J8" and first["ontology_curie"] == "EFO:0003042"
    assert (first["biosample"], first["size"], first["retrieved_utc"]) == ("H1-hESC", 8_000_000_000, UTC)
    write_manifest(rows, tmp_path / "m.tsv")
    read = read_manifest(tmp_path / "m.tsv").to_dicts()
    assert str(raw_path(read[0])) == "results/raw/4dnucleome/4DNFI9GMP2J8.mcool"
    groups = track_groups(read, "human", "contact_maps")
    assert len(groups) == 28 and all(len(group) == 1 for group in groups.values())


def test_accessions_are_asked_in_batches() -> None:
    names = [f"4DNFI{number:07d}" for number in range(250)]
    portal = Portal(file(name) for name in names)
    found = [item["accession"] for item, _ in fourdn.files_of(portal, names)]
    assert found == names
    assert [sum(k == "accession" for k, _ in question) for question in portal.asked] == [100, 100, 50]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, "4DNFI9GMP2J8 is not there"),
        ({"status": "replaced"}, "4DNFI9GMP2J8 is replaced"),
        ({"file_format": {"file_format": "hic"}}, "4DNFI9GMP2J8 is a hic file"),
    ],
)
def test_a_map_that_is_gone_is_named(change: dict[str, Any] | None, message: str) -> None:
    files = preset()
    files[:1] = [] if change is None else [files[0] | change]
    with pytest.raises(FileError, match=f"{message}.*wanted released"):
        fourdn.published_maps(Portal(files))


def test_404_with_an_empty_graph_is_no_hit_and_any_other_404_an_error() -> None:
    assert fourdn.graph_of(Answer("u", 404, b'{"@graph": [], "total": 0}', UTC)) == []
    for status, body in ((404, b'{"status": "error"}'), (404, b'{"@graph": [{}]}'), (200, b"[]")):
        with pytest.raises(FileError, match="the portal has changed"):
            fourdn.graph_of(Answer("u", status, body, UTC))


def test_discovery_keeps_large_released_maps() -> None:
    files = [
        file("4DNFIAAAAAA2"), file("4DNFIAAAAAA1", genome_assembly="GRCm38"),
        file("4DNFISMALL00", file_size=fourdn.MIN_SIZE - 1), file("4DNFIOLD0000", status="archived"),
        file("4DNFIEDGE000", file_size=fourdn.MIN_SIZE),
    ]  # fmt: skip
    rows = fourdn.large_maps(Portal(files))
    assert [row["accession"] for row in rows] == ["4DNFIAAAAAA2", "4DNFIEDGE000", "4DNFIAAAAAA1"]
    assert rows[0]["assay"] == "in situ Hi-C 4DNFIAAAAAA2" and rows[0]["experiment"] == "4DNES1"
    small = fourdn.large_maps(Portal(files), assemblies={"human": "GRCh38"}, min_size=0)
    assert "4DNFISMALL00" in [row["accession"] for row in small] and len(small) == 3
    assert fourdn.large_maps(Portal([])) == []


def test_a_search_that_tells_less_than_it_counts_is_refused() -> None:
    portal = Portal([file("4DNFIAAAAAA2")])
    portal.total = 2
    with pytest.raises(FileError, match="1 of 2 maps"):
        fourdn.large_maps(portal)


def test_the_open_address_is_rebuilt() -> None:
    item = file("4DNFI4P1U3CI", uuid="054197e4-e715-404a-85ac-713a80209ce8", open_data_url=None)
    tried: list[str] = []
    answers = iter([False, True])
    url = fourdn.open_url(item, lambda u: tried.append(u) or next(answers))
    assert tried[0] == url.replace("/files/", "/wfoutput/")
    assert url == (
        "https://4dn-open-data-public.s3.amazonaws.com/fourfront-webprod/files/"
        "054197e4-e715-404a-85ac-713a80209ce8/4DNFI4P1U3CI.mcool"
    )
    with pytest.raises(FileError, match="is not open"):
        fourdn.open_url(item, lambda u: False)
    with pytest.raises(FileError, match="neither open_data_url nor uuid"):
        fourdn.open_url(item | {"uuid": None}, lambda u: True)


def test_items_as_production_stores_them(real_data: Path) -> None:
    items = json.loads((real_data / "portals/4dn/perf-testing/file_processed.json").read_text())
    maps = [item for item in items if item.get("file_type") == "contact matrix"]
    assert len(maps) >= 6
    rows = [fourdn.row_of(item, UTC, lambda url: "wfoutput" in url) for item in maps]
    found = {row["accession"]: row for row in rows}["4DNFI4P1U3CI"]
    assert (found["organism"], found["assembly"], found["size"]) == ("mouse", "GRCm38", 2_301_848_473)
    assert found["md5"] == "2d36c29434e917186d1e2af2d9f5bc72"
    assert found["url"].endswith("/wfoutput/054197e4-e715-404a-85ac-713a80209ce8/4DNFI4P1U3CI.mcool")


def test_whether_an_address_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.mcool").write_text("x")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        root = f"http://127.0.0.1:{server.server_port}"
        assert fourdn.is_there(f"{root}/x.mcool") and not fourdn.is_there(f"{root}/y.mcool")
        server.shutdown()
        thread.join()
    with pytest.raises(FileError, match="tried 3 times without headway; rerun later"):
        fourdn.is_there(f"{root}/x.mcool")


def test_the_portal_is_listed_by_name() -> None:
    portal = Portal(preset())
    human = list_portal("4dn", portal, Release("r", organisms=("human",)))
    assert len(human.rows) == 28 and not human.refused
    micro = list_portal("4dn", portal, Release("r", assays=("Micro-C",)))
    assert {row["accession"] for row in micro.rows} == {"4DNFI9GMP2J8", "4DNFI9FVHJZQ", "4DNFINQYW56E"}
    portal.url = "http://here/search/"
    mouse = list_portal("4dn-all", portal, Release("r", organisms=("mouse",), base_url="http://here/"))
    assert len(mouse.rows) == 8


def test_organisms_assemblies_and_maps_are_settings(tmp_path: Path) -> None:
    cells = ("zebrafish", "0", "4DNFIZZZZZZ1", "embryo", "ZFS:0000001", "in situ Hi-C")
    (tmp_path / "maps.tsv").write_text("\t".join(fourdn.PRESET) + "\n" + "\t".join(cells) + "\n")
    settings = ListingSettings(
        map_assemblies={"zebrafish": "GRCz11"}, contact_maps=str(tmp_path / "maps.tsv")
    )
    portal = Portal([file("4DNFIZZZZZZ1", genome_assembly="GRCz11"), file("4DNFIAAAAAA2")])
    for name in ("4dn", "4dn-all"):
        (row,) = list_portal(name, portal, Release("r", settings=settings)).rows
        assert (row["accession"], row["organism"], row["assembly"]) == (
            "4DNFIZZZZZZ1", "zebrafish", "GRCz11"
        )  # fmt: skip
    with pytest.raises(FileError, match="is of assembly GRCz11; known: GRCh38, GRCm38"):
        fourdn.row_of(portal.files[0], UTC, lambda url: True)
