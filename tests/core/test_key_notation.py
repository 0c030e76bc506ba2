"""One notation of keys: files, schemes of our own, and schemes that other packages register."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mystikos_tool.errors import UserError
from mystikos_tool.signing import enclave_key, notation, pem, pkcs11_uri

KEYS = Path(__file__).parent.parent / "data" / "keys"
MODULE = "?module-path=/m.so"


def refused(key: str) -> UserError:
    with pytest.raises(UserError) as error:
        enclave_key.signer(key)
    return error.value


# Files


@pytest.mark.parametrize(
    "name", ["key.pem", "./exec:key.pem", "C:key.pem", "x-y+z.1:key.pem", "1:key.pem", "a b"]
)
@pytest.mark.parametrize("form", ["{}", "file:{}"])
def test_a_file_is_named_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, form: str
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(KEYS / "key-a.pem", name)
    assert enclave_key.signer(form.format(name)).identity == pem.load(KEYS / "key-a.pem").identity
    assert notation.parse(form.format(name)).files == (Path(name),)


@pytest.mark.parametrize("name", ["exec:key.pem", "pkcs11:key.pem", "file:key.pem"])
def test_a_path_object_is_a_file_whatever_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(KEYS / "key-a.pem", name)
    assert enclave_key.signer(Path(name)).identity == pem.load(KEYS / "key-a.pem").identity


def test_a_file_that_is_called_like_a_scheme_does_not_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(KEYS / "key-a.pem", "exec:key.pem")
    assert "does not say which key it signs with" in refused("exec:key.pem").problem


@pytest.mark.parametrize("key", ["file:", "file:?passphrase=env:NAME"])
def test_a_scheme_without_a_file_is_told(key: str) -> None:
    assert str(refused(key)) == "file:…: names no file; write it behind file:"


def test_an_unknown_scheme_is_told_without_what_follows_it() -> None:
    error = refused("vault:secret/4711")
    assert str(error).startswith(
        "vault:…: names a key by a scheme that is not known, and there is no such file;"
    )
    assert "4711" not in str(error)


# Other packages


@pytest.fixture
def other_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed distribution that registers the scheme ``drawer``."""
    information = tmp_path / "drawer-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: drawer\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[mystikos_tool.signers]\ndrawer = drawer_keys:of\n")
    (tmp_path / "drawer_keys.py").write_text(
        "from pathlib import Path\n"
        "from mystikos_tool.signing import pem\n"
        f"def of(name): return pem.load(Path({str(KEYS)!r}, name + '.pem'))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "drawer_keys", raising=False)
    return tmp_path


def test_a_scheme_of_another_package_signs(other_package: Path) -> None:
    assert enclave_key.signer("drawer:key-b").identity == pem.load(KEYS / "key-b.pem").identity


def test_two_packages_that_register_one_scheme_are_told(other_package: Path) -> None:
    shutil.copytree(other_package / "drawer-1.0.dist-info", other_package / "chest-1.0.dist-info")
    (other_package / "chest-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: chest\nVersion: 1.0\n"
    )
    (other_package / "chest-1.0.dist-info" / "entry_points.txt").write_text(
        "[mystikos_tool.signers]\ndrawer = chest_keys:of\n"
    )
    assert "several packages register the scheme" in refused("drawer:key-b").problem


# PKCS #11 URIs


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)


@settings(deadline=None)
@given(token=TEXT, label=TEXT, identifier=st.binary(min_size=1), pin=TEXT)
def test_what_is_percent_encoded_is_read_back(token: str, label: str, identifier: bytes, pin: str) -> None:
    uri = (
        f"token={quote(token, safe='')};object={quote(label, safe='')};type=private"
        f";id={quote(identifier, safe='')}"
        f"?module-path={quote('/a module;&?.so')}&pin-source={quote('env:' + pin, safe='')}"
    )
    read = pkcs11_uri.parse(uri)
    assert (read.place, read.label, read.id) == ({"token": token}, label, identifier)
    assert (read.module, read.pin_source) == ("/a module;&?.so", "env:" + pin)


@pytest.mark.parametrize(
    ("given", "source"),
    [
        ("/run/pin", "file:/run/pin"),
        ("file:/run/pin", "file:/run/pin"),
        ("file:///run/pin", "file:/run/pin"),
        ("%7C/usr/lib/pinomatic%20-x", "exec:/usr/lib/pinomatic -x"),
        ("|/usr/lib/pinomatic", "exec:/usr/lib/pinomatic"),
        ("terminal:", "terminal:"),
    ],
)
def test_the_sources_of_a_pin_are_those_of_the_rfc_and_ours(given: str, source: str) -> None:
    assert pkcs11_uri.parse(f"object=a{MODULE}&pin-source={given}").pin_source == source


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        (f"object=a;object=b{MODULE}", "has object twice"),
        (f"object=a{MODULE}&module-path=/n.so", "has module-path twice"),
        (f"object=a{MODULE}&pin-value=1234", "has the PIN in it"),
        (f"object=a;pin-value=1234{MODULE}", "has the PIN in it"),
        (f"object=a;colour=1234{MODULE}", "has an attribute that is not among token,"),
        (f"object=a{MODULE}&colour=1234", "has an attribute that is not among pin-source,"),
        (f"object{MODULE}", "has an attribute that is not among"),
        (f"object=a;type=cert{MODULE}", "names no private key"),
        (f"object=%4{MODULE}", "object has a % without two hexadecimal digits"),
        (f"object=%ff{MODULE}", "object is not UTF-8"),
        ("object=a", "names no module by an absolute path"),
        ("object=a?module-path=softhsm.so", "names no module by an absolute path"),
        ("object=a?module-name=softhsm", "has module-name, which is not looked up here"),
        (f"object=a{MODULE}&timeout=1234s", "its timeout cannot be"),
        (f"object=a{MODULE}%00.so", "module-path has a NUL in it"),
        (f"token=a%00b;object=a{MODULE}", "token has a NUL in it"),
        (f"object=a{MODULE}&timeout=1e10", "its timeout cannot be '1e10'"),
        (f"object=a{MODULE}&timeout=0", "its timeout cannot be '0'"),
    ],
)
def test_what_is_no_uri_of_a_key_is_told_and_no_pin_is_shown(uri: str, problem: str) -> None:
    error = refused(f"pkcs11:{uri}")
    assert problem in error.problem
    assert "1234" not in str(error) or "timeout" in uri


@pytest.mark.parametrize("source", ["1234", "pin:1234", "env:", "pass:1234"])
def test_a_pin_in_the_place_of_its_source_is_refused_and_not_shown(source: str) -> None:
    with pytest.raises(UserError) as error:
        from mystikos_tool.signing import secret

        secret.read(source, "the PIN", "here", "")
    assert "is given in a form that is no source" in error.value.problem
    assert "1234" not in str(error.value)
