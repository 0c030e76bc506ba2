#!/bin/sh
# build.sh PYTHON OUT: compile the program of these records into the directory OUT.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$2"
"$1" -m ziglang cc -target x86_64-linux-musl -std=c11 -D_GNU_SOURCE -O1 -fno-sanitize=all -static -o "$2/probe" "$here/probe.c"
