"""Why two enclaves differ, and what is in a package: facts of both, and these as text, JSON, HTML and SVG."""
