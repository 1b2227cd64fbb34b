"""restill: one-step generators of clean images, learned from corrupted measurements only."""

__version__ = "0.1.0"
