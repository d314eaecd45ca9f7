"""`python -m procrastinate_deps.demos`: a table of the demos; with a name it runs one, with `all` all of them."""

from procrastinate_deps.demos.program import main

if __name__ == "__main__":
    main()
