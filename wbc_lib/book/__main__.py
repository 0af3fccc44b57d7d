"""Jupyter Book's command, in a process that ends with the one that started it (`stopping.run`)."""

from jupyter_book.cli.main import main

from wbc_lib import stopping

if __name__ == "__main__":
    stopping.end_with_stdin()
    main()
