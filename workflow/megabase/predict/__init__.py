"""Predictions for people: a sequence, an interval or a variant in, arrays with their tracks out."""

from __future__ import annotations

from megabase.predict.api import Predictor, VariantPrediction
from megabase.predict.arrays import Prediction, Spread

__all__ = ["Prediction", "Predictor", "Spread", "VariantPrediction"]
