"""Fuzz targets for what the runtime reads of a package, and their corpus."""
