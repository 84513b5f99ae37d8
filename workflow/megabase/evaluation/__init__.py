"""Metrics of track evaluation; each turns windows into per-window sums, so that intervals are cheap."""
