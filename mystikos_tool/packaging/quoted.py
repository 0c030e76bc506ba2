"""A quote held to a policy: what it says, and what of it is not as expected."""

from __future__ import annotations

import json
from typing import NamedTuple

from mystikos_tool.formats.quote import ATTRIBUTE_INIT, HEADER, REPORT, Quote
from mystikos_tool.formats.sigstruct import ATTRIBUTE_DEBUG
from mystikos_tool.packaging.policy import Policy

FORMAT = 1
_UNPROVED = "that an SGX platform made the quote: its signatures, certificates and TCB were not verified"


class CheckedQuote(NamedTuple):
    """A quote; ``problems`` are what is not as the policy says, None where there was none to hold it to."""

    quote: Quote
    found: tuple[str, ...] | None

    @property
    def problems(self) -> tuple[str, ...]:
        """What is not as expected, a phrase each."""
        return self.found or ()

    def _facts(self) -> dict[str, object]:
        header, report = HEADER.unpack(self.quote.header), REPORT.unpack(self.quote.report)
        facts = {**header, **report, "certification_type": self.quote.certification_type}
        bits = ("attributes", "xfrm", "miscselect")
        return {
            name: value.hex() if isinstance(value, bytes) else f"{value:#x}" if name in bits else value
            for name, value in facts.items()
        } | {"debug": bool(int(report["attributes"]) & ATTRIBUTE_DEBUG)}

    def to_json(self) -> str:
        """Return one JSON object; bytes are in hexadecimal."""
        verdict = {"as_expected": None if self.found is None else not self.found, "problems": self.problems}
        return json.dumps(
            {"format": FORMAT, **verdict, "unproved": [_UNPROVED], "quote": self._facts()}, indent=1
        )

    def to_text(self) -> str:
        """Return lines for people."""
        lines = [f"{name:20} {value}" for name, value in self._facts().items()]
        held = "it was held to no policy (--policy FILE)" if self.found is None else None
        verdict = held or ("it is not as the policy says" if self.found else "it is as the policy says")
        return "\n".join([*lines, verdict, f"not proved: {_UNPROVED}"])


def check(quote: Quote, policy: Policy | None) -> CheckedQuote:
    """Hold the report of a quote to a policy."""
    if policy is None:
        return CheckedQuote(quote, None)
    report = REPORT.unpack(quote.report)
    wrong = []
    for name, wanted in (("mrenclave", policy.mrenclave), ("mrsigner", policy.mrsigner)):
        if wanted is not None and report[name] != wanted:
            wrong.append(f"{name.upper()} is {bytes(report[name]).hex()}, expected is {wanted.hex()}")  # type: ignore[arg-type]
    if report["product_id"] != policy.product_id:
        wrong.append(f"the product is {report['product_id']!r}, expected is {policy.product_id}")
    if int(report["security_version"]) < policy.security_version:
        version = int(report["security_version"])
        wrong.append(f"the security version is {version}, expected is at least {policy.security_version}")
    if int(report["attributes"]) & ATTRIBUTE_DEBUG and not policy.debug:
        wrong.append("the enclave may be debugged, which is not expected")
    # A running enclave is initialized, which no SIGSTRUCT says.
    attributes = int(report["attributes"]) & ~ATTRIBUTE_INIT
    for name, found, expected, mask in (
        ("ATTRIBUTES", attributes, policy.attributes, policy.attributes_mask & ~ATTRIBUTE_DEBUG),
        ("XFRM", int(report["xfrm"]), policy.xfrm, policy.xfrm_mask),
        ("MISCSELECT", int(report["miscselect"]), policy.miscselect, policy.miscmask),
    ):
        if (found ^ expected) & mask & ~(ATTRIBUTE_INIT if name == "ATTRIBUTES" else 0):
            wrong.append(f"{name} is {found:#x}, expected is {expected:#x} under the mask {mask:#x}")
    return CheckedQuote(quote, tuple(wrong))
