"""Hold the embedded runtime against what Mystikos was recorded to do."""
