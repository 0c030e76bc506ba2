"""Signing: who signs an enclave (`signer`, `pem`), and which keys and disks a package trusts (`trusted`)."""
