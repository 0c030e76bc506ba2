"""The benchmarks: builds, stages and starts against their floors and against other ways to do the same.

    ./sconsw bench
    BENCH_ARGS="--quick --only nothing" ./sconsw bench

See docs/benchmarks.md.
"""
