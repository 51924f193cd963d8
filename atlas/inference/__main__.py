"""`python -m atlas.inference` starts the worker."""

from atlas.inference.main import main

if __name__ == "__main__":
    main()
