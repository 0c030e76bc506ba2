"""Container images as sources of a root: what the OCI image and distribution specifications describe."""
