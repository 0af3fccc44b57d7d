"""The ``wbc`` command."""
