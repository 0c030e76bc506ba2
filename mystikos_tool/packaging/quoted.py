"""A quote held to a policy: what it says, and what of it is not as expected."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from mystikos_tool.formats.quote import ATTRIBUTE_INIT, HEADER, REPORT, Quote
from mystikos_tool.formats.sigstruct import ATTRIBUTE_DEBUG
from mystikos_tool.packaging.policy import Policy

if TYPE_CHECKING:
    from mystikos_tool.packaging.quote_proof import Proof

FORMAT = 1
_NOT_VERIFIED = "that an SGX platform made the quote: its signatures, certificates and TCB were not verified"
_NOT_HELD = "that the enclave is the expected one: the quote was held to no policy"


class CheckedQuote(NamedTuple):
    """A quote, what is not as the policy says, and what was proved of its platform.

    ``differences`` are None where there was no policy to hold it to, ``proof`` where there was no
    collateral. ``accepted_tcb`` are TCB statuses that are accepted beside UpToDate.
    """

    quote: Quote
    differences: tuple[str, ...] | None
    proof: Proof | None = None
    accepted_tcb: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[str, ...]:
        """What is not as expected, a phrase each."""
        platform = self.proof.not_accepted(self.accepted_tcb) if self.proof else ()
        return (*(self.differences or ()), *platform)

    @property
    def unproved(self) -> tuple[str, ...]:
        """What was not proved, sentences for people."""
        return (
            *(() if self.proof else (_NOT_VERIFIED,)),
            *((_NOT_HELD,) if self.differences is None else ()),
        )

    def _facts(self) -> dict[str, object]:
        header, report = HEADER.unpack(self.quote.header), REPORT.unpack(self.quote.report)
        bits = ("attributes", "xfrm", "miscselect")
        facts: dict[str, object] = {
            name: value.hex() if isinstance(value, bytes) else f"{value:#x}" if name in bits else value
            for name, value in {**header, **report}.items()
        }
        facts["certification_type"] = self.quote.certification_type
        facts["debug"] = bool(int(report["attributes"]) & ATTRIBUTE_DEBUG)
        return facts

    def to_json(self) -> str:
        """Return one JSON object; bytes are in hexadecimal."""
        verdict = {"as_expected": not self.problems, "problems": self.problems, "unproved": self.unproved}
        proof = self.proof._asdict() if self.proof else None
        document = {"format": FORMAT, **verdict, "proof": proof, "quote": self._facts()}
        return json.dumps(document, indent=1)

    def to_text(self) -> str:
        """Return lines for people."""
        lines = [f"{name:20} {value}" for name, value in self._facts().items()]
        if self.proof:
            lines += [f"{name:20} {value}" for name, value in self.proof._asdict().items()]
        return "\n".join([*lines, *(f"not proved: {fact}" for fact in self.unproved)])


def check(quote: Quote, policy: Policy | None) -> CheckedQuote:
    """Hold the report of a quote to a policy."""
    if policy is None:
        return CheckedQuote(quote, None)
    report = REPORT.unpack(quote.report)
    wrong = []
    for name, wanted in (("mrenclave", policy.mrenclave), ("mrsigner", policy.mrsigner)):
        if wanted is not None and report[name] != wanted:
            wrong.append(f"{name.upper()} is {bytes(report[name]).hex()}, expected is {wanted.hex()}")
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
