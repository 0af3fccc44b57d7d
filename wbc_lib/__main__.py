"""The `wbc` command, loaded so that Ctrl-C is answered from the first moment."""

import os
import signal


def main() -> None:
    """Load and run the command line."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            # Nothing has begun yet that would have to be put in order.
            signal.signal(number, lambda number, _: os._exit(128 + number))
    from wbc_lib.cli import main as cli

    try:
        cli.main()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            # All is done: a stop while the interpreter ends would only spoil the exit code.
            signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    main()
