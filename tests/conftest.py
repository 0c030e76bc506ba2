"""Under CI a test that is skipped because a tool is not installed fails: the set-up installs them all."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import pytest

_MISSING = "is not installed"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn such a skip into a failure."""
    report = yield
    reason: Any = report.longrepr
    if os.environ.get("CI") and report.skipped and isinstance(reason, tuple) and _MISSING in reason[2]:
        report.outcome = "failed"
        report.longrepr = f"{reason[2]}; .ci/install-tools is to install it"
    return report
