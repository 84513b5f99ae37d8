"""Typed settings, one class a stage; the single source of every default and every description."""
