"""Bytes to values and back, each format in its own module; no policy and no files of the user."""
