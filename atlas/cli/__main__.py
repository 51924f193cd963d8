"""Runs the command line: `python -m atlas.cli`."""

from atlas.cli import main

if __name__ == "__main__":
    main()
