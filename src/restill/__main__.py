"""The command line: `python -m restill`, also under `torchrun --nproc-per-node N -m restill`."""

from restill.cli import main

if __name__ == "__main__":
    main()
