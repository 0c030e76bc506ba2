"""Tokens of SoftHSM, each in a directory of its own, with keys that were imported."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import pytest

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN = "hy4-ph3n"
LOGIN, SIGN = 18, 43  # places of functions in the list of a module
KEYS = Path(__file__).parent.parent / "data" / "keys"

needs_token = pytest.mark.skipif(
    not shutil.which("softhsm2-util") or find_spec("pkcs11") is None,
    reason="softhsm2 or python-pkcs11 is not installed",
)


@dataclass(frozen=True)
class SoftToken:
    """A token; what uses it has to have ``environment`` set."""

    directory: Path
    label: str = "release"

    @property
    def environment(self) -> dict[str, str]:
        return {"SOFTHSM2_CONF": str(self.directory / "softhsm2.conf"), "TOKEN_PIN": PIN}

    def make(self) -> SoftToken:
        (self.directory / "tokens").mkdir(parents=True, exist_ok=True)
        configuration = f"directories.tokendir = {self.directory}/tokens\nlog.level = ERROR\n"
        (self.directory / "softhsm2.conf").write_text(configuration)
        self.run("--init-token", "--free", "--label", self.label, "--so-pin", "5678", "--pin", PIN)
        return self

    def add(self, key: Path, *, label: str = "signer", identifier: str = "a1", force: bool = False) -> None:
        """Import a private key, and with it its public half."""
        options = ["--label", label, "--id", identifier, *(["--force"] if force else [])]
        self.run("--import", str(key), "--token", self.label, "--pin", PIN, *options)

    def run(self, *arguments: str) -> None:
        environment: Mapping[str, str] = {**os.environ, **self.environment}
        subprocess.run(["softhsm2-util", *arguments], env=environment, check=True, capture_output=True)

    def uri(self, *, pin: str | None = "env:TOKEN_PIN", module: Path = MODULE, **attributes: str) -> str:
        """The URI of the key with these attributes; ``more`` are those of the query."""
        more = attributes.pop("more", "")
        named = {"token": self.label, **(attributes or {"object": "signer"})}
        path = ";".join(f"{name}={quote(value, safe='%')}" for name, value in named.items())
        pin_source = f"&pin-source={pin}" if pin else ""
        return f"pkcs11:{path}?module-path={module}{pin_source}{more}"


def built(path: Path, source: str) -> Path:
    """Compile a module."""
    if not shutil.which("gcc"):
        pytest.skip("gcc is not installed")
    command = ["gcc", "-shared", "-fPIC", "-w", "-x", "c", "-", "-o", str(path)]
    subprocess.run(command, input=source.encode(), check=True)
    return path


def in_front(path: Path, place: int, instead: str) -> Path:
    """Compile a module in front of SoftHSM's, with another function in one place."""
    source = f"""
        #include <dlfcn.h>
        #include <string.h>
        static void *list[69];  // the version, and 68 functions in the order of the standard
        static long instead(void *session, void *data, long size, void *out, unsigned long *out_size) {{
            {instead}
        }}
        int C_GetFunctionList(void **functions) {{
            void **real;
            int (*get)(void ***) = dlsym(dlopen("{MODULE}", RTLD_NOW), "C_GetFunctionList");
            if (get(&real)) return 5;
            memcpy(list, real, sizeof list);
            list[1 + {place}] = (void *)instead;
            *functions = list;
            return 0;
        }}
    """
    return built(path, source)
