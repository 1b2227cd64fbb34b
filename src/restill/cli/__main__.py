"""`python -m restill.cli`, as `python -m restill`."""

from .app import main

if __name__ == "__main__":
    main()
