"""The demo organism: a synthetic genome with known truth, measured by every assay in its real file format.

One written-down rule (docs/demo.md) turns sequence into signal, so the effect of any variant is known: it is
the rule on the ALT sequence minus the rule on the REF sequence.
"""

from megabase.simulate.catalogue import demo_files, write_manifest
from megabase.simulate.demo import DemoSize, simulate_demo

__all__ = ["DemoSize", "demo_files", "simulate_demo", "write_manifest"]
