"""What goes into a root file system, from the sources to an archive."""
