"""The portal of the tests does what it says: a fault that it fails to make would test nothing."""

from __future__ import annotations

import gzip
import json
import socket
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request as Ask
from urllib.request import urlopen

import pytest

from portal import Fault, Portal
from portal.faults import ERROR_BODIES, LASTING, PASSING, RANGES

BODY = bytes(range(256)) * 40


def ask(url: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with urlopen(Ask(url, method=method, headers=named), timeout=5) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except HTTPError as error:
        return error.code, dict(error.headers), error.read()


def raw(portal: Portal, path: str) -> bytes:
    """All bytes of an answer until the server closes; a reset is raised."""
    with socket.create_connection((portal.host, portal.server_port), timeout=5) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        found = b""
        while block := connection.recv(65536):
            found += block
        return found


def test_every_fault_is_of_one_kind() -> None:
    kinds = [*PASSING, *RANGES, *LASTING, Fault.STALL]
    assert sorted(kinds, key=str) == sorted(Fault, key=str)


def test_a_file_and_its_ranges(portal: Portal) -> None:
    url = portal.file("/a%2520b/x.bw", BODY)
    status, headers, body = ask(url)
    assert (status, body) == (200, BODY)
    tag = headers["ETag"]
    status, headers, body = ask(url, Range="bytes=100-", If_Range=tag)
    assert (status, body) == (206, BODY[100:])
    assert headers["Content-Range"] == f"bytes 100-{len(BODY) - 1}/{len(BODY)}"
    assert ask(url, Range="bytes=100-", If_Range='"old"')[0] == 200
    assert ask(url, Range=f"bytes={len(BODY)}-", If_Range=tag)[0] == 416
    assert [request.target for request in portal.requests] == ["/a%2520b/x.bw"] * 4
    assert ask(f"{portal.url}/a%20b/x.bw")[0] == 404  # the path is not decoded


@pytest.mark.parametrize("fault", ERROR_BODIES, ids=lambda fault: fault.name)
def test_answers_that_are_errors(portal: Portal, fault: Fault) -> None:
    url = portal.file("/x", BODY, fault)
    status, headers, body = ask(url)
    assert (status, body.decode()) == (ERROR_BODIES[fault][0], ERROR_BODIES[fault][2])
    assert headers["Content-Type"] == ERROR_BODIES[fault][1]
    assert ask(url)[2] == BODY  # the fault is used up


def test_bodies_that_break_off(portal: Portal) -> None:
    half = BODY[: len(BODY) // 2]
    for fault, ending, stated in (
        (Fault.CUT, half, f"Content-Length: {len(BODY)}"),
        (Fault.CUT_SILENT, half, "Connection: close"),
        (Fault.CUT_CHUNKED, half + b"\r\n", "Transfer-Encoding: chunked"),
        (Fault.CUT_ENDED, half + b"\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
        (Fault.CHANGED, BODY[::-1][: len(BODY) // 2], 'ETag: "another version"'),
    ):
        portal.file("/x", BODY, fault)
        head, _, body = raw(portal, "/x").partition(b"\r\n\r\n")
        assert stated.encode() in head and body.endswith(ending), fault
        assert len(body) < len(BODY) * 0.6
    for fault in (Fault.RESET, Fault.RESET_EARLY):
        portal.file("/x", BODY, fault)
        with pytest.raises(ConnectionResetError):
            raw(portal, "/x")
    assert portal.requests[-1].status == 0


def test_bodies_that_are_odd(portal: Portal) -> None:
    portal.file("/x", BODY, Fault.CORRUPT, Fault.DRIP, Fault.COMPRESSED, Fault.BUSY, retry_after="7")
    body = ask(f"{portal.url}/x")[2]
    assert len(body) == len(BODY) and sum(a != b for a, b in zip(body, BODY, strict=True)) == 1
    assert ask(f"{portal.url}/x")[2] == BODY
    assert gzip.decompress(ask(f"{portal.url}/x")[2]) == BODY
    status, headers, _ = ask(f"{portal.url}/x")
    assert (status, headers["Retry-After"]) == (429, "7")


def test_ranges_that_are_odd(portal: Portal) -> None:
    url = portal.file("/x", BODY, *RANGES)
    statuses = [ask(url, Range="bytes=5-") for _ in RANGES]
    assert [status for status, _, _ in statuses] == [200, 416, 206]
    assert statuses[2][1]["Content-Range"].startswith("bytes 6-")


def test_a_presigned_link_dies_and_refuses_head(portal: Portal) -> None:
    with Portal("127.0.0.2") as storage:
        url = portal.presigned("/x.bw", BODY, storage=storage)
        assert ask(url)[2] == BODY
        link = f"{storage.url}{storage.requests[0].target}"
        assert "X-Amz-Signature" in link and ask(link)[0] == 403
        assert ask(link, "HEAD")[0] == 403 and storage.requests[-1].method == "HEAD"
        assert ask(url)[2] == BODY  # a new link


def test_a_login_is_asked_for(portal: Portal) -> None:
    url = portal.file("/x", BODY, login="key:secret")
    assert ask(url)[0] == 401
    assert ask(url, Authorization="Basic a2V5OnNlY3JldA==")[2] == BODY
    assert [request.login for request in portal.requests] == [None, "key:secret"]


def test_a_search_over_items(portal: Portal) -> None:
    item = {"@type": ["File", "Item"], "status": "released", "file_format": "bigWig"}
    items = [item | {"accession": f"ENCFF{n}", "cloud_metadata": {"url": f"u{n}", "file_size": n},
                     "biological_replicates": [1 + n % 2]} for n in range(30)]  # fmt: skip
    portal.items([*items, item | {"accession": "ENCFFbad", "status": "revoked"}])

    def found(query: str) -> tuple[int, int, list[dict]]:
        status, _, body = ask(f"{portal.url}/search/?{query}")
        value = json.loads(body)
        return status, value["total"], value["@graph"]

    assert [len(found(f"type=File{more}")[2]) for more in ("", "&limit=all", "&limit=7")] == [25, 31, 7]
    assert found("type=File&status=released&biological_replicates=2&limit=all")[1] == 15
    assert found("type=File&status!=released")[1] == 1
    assert found("type=File&accession=ENCFF1&accession=ENCFF2")[1] == 2
    assert found("type=File&status=archived") == (404, 0, [])
    assert found("type=Experiment")[0] == 404
    _, _, graph = found("accession=ENCFF3&field=accession&field=cloud_metadata.url&field=nothing")
    assert graph == [{"@id": "/files/ENCFF3/", "@type": ["File", "Item"], "accession": "ENCFF3",
                      "cloud_metadata": {"url": "u3"}}]  # fmt: skip
    assert ask(f"{portal.url}/search/?limit=1&limit=2")[0] == 400
    assert json.loads(ask(f"{portal.url}/files/ENCFF3/?format=json")[2])["accession"] == "ENCFF3"
    assert ask(f"{portal.url}/files/ENCFFx/")[0] == 404


def test_recorded_answers(portal: Portal, real_data: Path) -> None:
    targets = portal.recorded(real_data / "portals")
    for target in targets:
        status, _, body = ask(f"{portal.url}{target}")
        assert (status == 404) == (target == "/search/?type=File") and body
    search = next(target for target in targets if "dataset=%2Fexperiments%2FENCSR098PTC" in target)
    path, _, query = search.partition("?")
    turned = "&".join(reversed(query.split("&")))  # the order of the parameters does not matter
    assert json.loads(ask(f"{portal.url}{path}?{turned}")[2])["total"] == 14
    released = {item["accession"] for item in json.loads(ask(f"{portal.url}{search}")[2])["@graph"]}
    assert len(released) == 14
