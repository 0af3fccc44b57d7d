"""Sentences that chapters show, until they stand in the chapters."""
