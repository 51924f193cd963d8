"""`python -m atlas.inference.regimes` starts the regime service."""

from atlas.inference.regimes.main import main

if __name__ == "__main__":
    main()
