"""`python -m wbc_lib` is the `wbc` command."""

from wbc_lib.cli import main

if __name__ == "__main__":
    main()
