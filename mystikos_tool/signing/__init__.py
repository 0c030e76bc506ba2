"""Who signs an enclave, and which keys it trusts."""
