"""Pictures that come in by hand."""
