"""`python -m megabase`: what torchrun starts in every process."""

from __future__ import annotations

from megabase.cli import main

if __name__ == "__main__":
    main()
