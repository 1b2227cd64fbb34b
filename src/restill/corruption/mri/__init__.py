"""Multi-coil MRI: the corruption, its operator, sampling patterns and coil sensitivity maps."""
