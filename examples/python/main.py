"""Compute something with a good part of the standard library, inside of the package."""

import decimal
import hashlib
import json
import os
import platform
import statistics


def pi(digits: int) -> decimal.Decimal:
    """Return pi by Machin's formula."""
    decimal.getcontext().prec = digits + 10

    def arctan_inverse(x: int) -> decimal.Decimal:
        term = total = decimal.Decimal(1) / x
        n, sign = 3, -1
        while abs(term) > decimal.Decimal(10) ** -(digits + 8):
            term /= x * x
            total += sign * term / n
            n, sign = n + 2, -sign
        return total

    value = 4 * (4 * arctan_inverse(5) - arctan_inverse(239))
    decimal.getcontext().prec = digits
    return +value


def main() -> None:
    """Print what was computed and where."""
    digits = str(pi(1000))
    print(
        json.dumps(
            {
                "python": platform.python_version(),
                "pid": os.getpid(),
                "pi": digits[:32],
                "pi_sha256": hashlib.sha256(digits.encode()).hexdigest(),
                "mean_digit": statistics.mean(int(digit) for digit in digits if digit != "."),
                "files": sum(len(files) for _, _, files in os.walk("/usr")),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
