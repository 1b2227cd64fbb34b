"""The version of restill, which everything that it writes carries."""

VERSION = "0.1.0"
