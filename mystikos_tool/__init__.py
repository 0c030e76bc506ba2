"""Build Mystikos enclave packages: an application directory becomes one signed ELF file."""
