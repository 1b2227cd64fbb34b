"""The version of restill, which is recorded in every file it writes."""

VERSION = "0.1.0"
