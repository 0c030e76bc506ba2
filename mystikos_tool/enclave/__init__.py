"""The enclave: its image, the layout of its pages, and MRENCLAVE, their measurement."""
