"""The package: its sections, how it is written, and what it says about itself."""
