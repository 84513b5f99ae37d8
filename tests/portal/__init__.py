"""A portal on this machine for tests: recorded answers, small files, and every fault of a real one.

The fixture `portal` (tests/conftest.py) starts one and ends it. Nothing here imports the project.

    def test_a_busy_portal_is_asked_again(portal: Portal, tmp_path: Path) -> None:
        url = portal.file("/files/ENCFF1/@@download/ENCFF1.bigWig", b"signal", Fault.BUSY)
        fetch_source(url, tmp_path / "x.bigWig", size=6)
        assert [request.status for request in portal.requests] == [429, 200]

Faults are used up, one a GET; after the last the path is healthy. `always=Fault.X` never ends.

    portal.file(path, body, *faults)               a file with an ETag, Range, If-Range
    portal.presigned(path, body, *faults)          a 307 to a link that dies after one GET and refuses HEAD
    portal.answer(path, value, query=..., status=...)   JSON (or bytes), for one query or for all
    portal.items(items)                            /search/ over the items, and a page of each
    portal.recorded(folder)                        the recorded answers of `data/portals`, by their own paths
    portal.requests, portal.seen(path)             what was asked, in the order of arrival

An unknown search is answered as the portals do it: 404 with an empty `@graph`. An unknown path is a 404 with
an error body and no `@graph`.
"""

from portal.faults import Fault
from portal.server import Portal, Request

__all__ = ["Fault", "Portal", "Request"]
