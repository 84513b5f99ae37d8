"""Raw signal to normalized tracks: coverage, cut sites, contacts, splicing, and the track table."""

from __future__ import annotations

from megabase.tracks.contacts import normalize_contacts
from megabase.tracks.coverage import normalize_track
from megabase.tracks.splicing import normalize_splicing
from megabase.tracks.table import list_tracks

__all__ = ["list_tracks", "normalize_contacts", "normalize_splicing", "normalize_track"]
