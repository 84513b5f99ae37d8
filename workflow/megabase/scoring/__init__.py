"""Variant scoring: formulas and masks (tensors), scorers, engine, calibration, the store and explanations."""
