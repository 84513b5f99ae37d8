"""Metrics of track evaluation; each module turns windows into per-window sums, so that intervals are cheap."""
