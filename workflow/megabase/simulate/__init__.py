"""The demo organism: a synthetic genome with known truth, measured by every assay in its real file format.

One written-down rule (docs/demo.md) turns sequence into signal, so the effect of any variant is known: it is
the rule on the ALT sequence minus the rule on the REF sequence.
"""
