"""Content of any size, atomic writing, fingerprints of files, pages and progress."""
