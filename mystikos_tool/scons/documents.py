"""The builders of what others read of a package: report, policy, bill of materials and provenance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import SCons.Errors
from SCons.Node import NodeList

from mystikos_tool import __version__
from mystikos_tool.scons import arguments, sources, variables
from mystikos_tool.scons.actions import stage_builder
from mystikos_tool.scons.calls import environment, made
from mystikos_tool.scons.input_file import input_file
from mystikos_tool.scons.stages import Bom, Package, Policy, Provenance, Report, stage_of

REPORT_FORMS = {".html": "html", ".json": "json", ".svg": "svg", ".txt": "text"}

_SBOM_SUFFIX = ".cdx.json"
_PROVENANCE_SUFFIX = ".provenance.json"

_REPORT = stage_builder("report")
_POLICY = stage_builder("policy")
_SBOM = stage_builder("sbom")
_PROVENANCE = stage_builder("provenance")


def myst_report(env: Any, target: Any = None, source: Any = None, **overrides: Any) -> Any:
    """Show what is in a package, in the form of the target's suffix: ``MystReport(target, package)``."""
    env = environment(env, "MystReport", overrides)
    variables.check_matter("MystReport", overrides, (variables.REPORT,))
    name = arguments.target_name(env, target, "MystReport")
    form = REPORT_FORMS.get(Path(name).suffix.lower())
    if not form:
        problem = f"the suffix of {name} names no form; end it with one of {', '.join(REPORT_FORMS)}"
        raise SCons.Errors.UserError(f"MystReport: {problem}")
    return NodeList([_told(_REPORT, env, name, source, "MystReport", Report(detail=form, form=form))])


def myst_policy(env: Any, target: Any = None, source: Any = None, **overrides: Any) -> Any:
    """Write what a relying party holds a package's enclave to: ``MystPolicy("hello", package)``."""
    env = environment(env, "MystPolicy", overrides)
    variables.check_matter("MystPolicy", overrides, (variables.POLICY,))
    form, any_version = env[variables.POLICY_FORMAT], variables.is_on(env, variables.ANY_VERSION)
    name = sources.suffixed(arguments.target_name(env, target, "MystPolicy"), variables.POLICY_SUFFIXES[form])
    stage = Policy(detail=f"{form} {any_version}", form=form, any_version=any_version)
    return NodeList([_told(_POLICY, env, name, source, "MystPolicy", stage)])


def myst_sbom(env: Any, target: Any = None, source: Any = None, **overrides: Any) -> Any:
    """Write the bill of materials of a package, target.cdx.json: ``MystSbom(target, package)``."""
    env = environment(env, "MystSbom", overrides)
    variables.check_matter("MystSbom", overrides, (variables.SBOM,))
    name = sources.suffixed(arguments.target_name(env, target, "MystSbom"), _SBOM_SUFFIX)
    return NodeList([_told(_SBOM, env, name, source, "MystSbom", Bom(detail=__version__))])


def myst_provenance(env: Any, target: Any = None, source: Any = None, **overrides: Any) -> Any:
    """State of what a package was made, target.provenance.json: ``MystProvenance(target, package)``."""
    env = environment(env, "MystProvenance", overrides)
    variables.check_matter("MystProvenance", overrides, (variables.PROVENANCE,))
    package = sources.one_node(env, source, "MystProvenance")
    made_as = stage_of(package)
    if not isinstance(made_as, Package):
        problem = f"MystProvenance states what MystPackage made; {package} is something else"
        raise SCons.Errors.UserError(problem)
    name = sources.suffixed(arguments.target_name(env, target, "MystProvenance"), _PROVENANCE_SUFFIX)
    key = sources.signing_key(env, variables.PROVENANCE_KEY) if env.get(variables.PROVENANCE_KEY) else None
    enclave = made_as.enclave
    stage = Provenance(detail=f"{__version__} {enclave.trust()} {bool(key)}", enclave=enclave, key=key)
    parts = [package, *enclave.measured(), enclave.runtime[0], *(key.nodes if key else ())]
    node = sources.target_node(env, name, "MystProvenance")
    return NodeList([made(_PROVENANCE, env, node, parts, stage)])


def _told(builder: Any, env: Any, name: str, source: Any, call: str, stage: Any) -> Any:
    """Describe a document that is made of a package alone, which may also be a file from elsewhere."""
    package = sources.one_node(env, source, call)
    if stage_of(package) and not isinstance(stage_of(package), Package):
        raise SCons.Errors.UserError(f"{call} takes a package; {package} is something else")
    node = sources.target_node(env, name, call)
    return made(builder, env, node, [input_file(package, call)], stage)


BUILDERS: Mapping[str, Callable[..., Any]] = {
    "MystReport": myst_report,
    "MystPolicy": myst_policy,
    "MystSbom": myst_sbom,
    "MystProvenance": myst_provenance,
}
