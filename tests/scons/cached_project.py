"""A small project that is built through a remote cache."""

from __future__ import annotations

from pathlib import Path

from scons_project import SCONSTRUCT_WITH_OPTIONS, Project

UPPER = """\
upper = env.Command("out/upper", "text", "tr a-z A-Z < $SOURCE > $TARGET && chmod 751 $TARGET")
env.Command(["first", "second"], upper, "cp $SOURCE first && cat $SOURCE $SOURCE > second")
"""
TEXT = "what is written\n"


class Checkout(Project):
    """A project that uses a remote cache."""

    def run(self, *arguments: str, **named):  # type: ignore[no-untyped-def]
        url = self.environment["URL"]
        return super().run(*([f"MYST_REMOTE_CACHE={url}"] if url else []), *arguments, **named)

    def hits(self, *arguments: str) -> int:
        """Build; return how many actions' results were fetched."""
        line = self.build(*arguments).out.splitlines()[-1]
        return int(line.split()[2]) if line.startswith("remote cache: ") else 0


def checkout(directory: Path, url: str, body: str = UPPER) -> Checkout:
    made = Checkout(directory, {"URL": url, "XDG_CACHE_HOME": str(directory.parent / "cache")})
    made.write("text", TEXT)
    made.sconstruct(body, SCONSTRUCT_WITH_OPTIONS)
    return made


def check_built(project: Project) -> None:
    upper = TEXT.upper()
    assert {name: project.path(name).read_text() for name in ("out/upper", "first", "second")} == {
        "out/upper": upper,
        "first": upper,
        "second": 2 * upper,
    }
    assert project.path("out/upper").stat().st_mode & 0o777 == 0o751
