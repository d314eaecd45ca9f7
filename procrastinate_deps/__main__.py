"""`python -m procrastinate_deps`."""

from procrastinate_deps.cli import main

if __name__ == "__main__":
    main()
