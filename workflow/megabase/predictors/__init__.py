"""The models that evaluation and scoring can ask, behind one protocol."""
