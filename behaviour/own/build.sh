#!/bin/sh
# build.sh PYTHON OUT: compile the program of these records into the directory OUT; both are absolute paths.
set -eu
cd "$(dirname "$0")"
mkdir -p "$2"
# As the tests and the runtime compile, in a directory that the toolchain is not below: for other options, and for a
# relative path of its own, Zig compiles its C library anew, which takes 40 s.
"$1" -m ziglang cc -target x86_64-linux-musl -std=c11 -D_GNU_SOURCE -O1 -fno-sanitize=all \
    -fno-asynchronous-unwind-tables -fPIE -pie -static -o "$2/probe" probe.c
