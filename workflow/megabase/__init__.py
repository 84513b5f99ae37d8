"""megabase: a release of public data in, a sequence-to-function model and variant scores out."""

__version__ = "0.1.0"
