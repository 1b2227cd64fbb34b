"""The lowest layer: errors, atomic files, settings, kinds, plug-ins, progress, tensors, Fourier transforms."""
