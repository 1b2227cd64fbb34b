"""Which checkpoint of a student to use, without a clean image."""
