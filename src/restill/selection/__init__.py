"""Which checkpoint of a student to use, without a clean image."""

from .choice import NEAR, Candidate, Choice, choose
