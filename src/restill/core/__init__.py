"""What everything rests on: errors, atomic files, progress, tensors, Fourier transforms, shares of the work."""
