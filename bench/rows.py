"""The names of what is measured, which tables, plot and options share."""

from __future__ import annotations

FULL, NOTHING = "full build", "nothing to do"
FIRST = "nothing to do, right after a build"
FILE, KEY, CONFIG = "one file changed", "key changed", "config changed"
SIZE = "one file's size changed"
ROWS = (NOTHING, FIRST, FILE, KEY, CONFIG, FULL)

# The one row of Command, which packs everything whatever changed.
EACH = "each build"

EMPTY, WALK, HASH, WRITE = "empty SConstruct", "stat walk", "hash 1.27 x", "write once"
FLOOR = "floor"
MACHINE = "this machine"

STAGES = "stages without SCons"
TOGETHER, SIGN_ANEW = "rootfs, measure, sign and package", "sign and package anew"
ROOTFS, MEASURE, SIGN, PACKAGE = "rootfs", "measure", "sign", "package"

INSTALLED = "runtime of an installed Mystikos' size"
COMMAND_LINE, INTERPRETER = "hello from the command line", "interpreter start"
MEASURE_HELLO, HASH_OF_HELLO = "hello, measure", "hash of the same bytes"
APPS = (1, 100, 1_000)

STARTS = "starts"
HELLO, LARGE, HUGE = "hello", "5,000 files, 200 MB", "1,000 files, 1 GB"
PLAIN_PROCESS, AS_PACKAGE = "plain process", "package"
UNPACK, CPIO = "unpack 5,000 files, 200 MB", "cpio -i"


def from_nothing(apps: int, jobs: int) -> str:
    """Return the name of the row in which a number of apps is built from nothing."""
    return f"{apps:,} app{'s' if apps > 1 else ''} from nothing, -j{jobs}"


def two_jobs(apps: int) -> str:
    """Return the name of the row that has what two jobs take of one job's time, from run to run."""
    return f"{from_nothing(apps, 2)}, of -j1"


def memory(row: str) -> str:
    """Return the name of a row's peak memory."""
    return f"{row}: peak memory"
