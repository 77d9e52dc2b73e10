"""Readers of recorded road-user tracks, one file per source, and the way between formats."""
