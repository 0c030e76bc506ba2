"""Programs of the distribution are packaged, started and used, by root and by an ordinary user."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from compiling import needs_compiler
from packaging import make_package
from starting import Caller

from mystikos_tool.runtime import Runtime

pytestmark = [needs_compiler, pytest.mark.long]

SECONDS = 60.0
FORKS = {"ForkMode": "pseudo_wait_for_exit_exec"}
ACCOUNTS = {
    "etc/passwd": "root:x:0:0::/:/bin/sh\nwww-data:x:33:33::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n",
    "etc/group": "root:x:0:\nwww-data:x:33:\nnogroup:x:65534:\n",
}


def installed(tool: str) -> str:
    """The program that a name stands for, or a skip that names it."""
    found = shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/bin")
    if found is None:
        pytest.skip(f"{tool} is not installed")
    return found


@dataclass(frozen=True)
class Maker:
    """Packages of programs of this machine with what they need, each made once."""

    runtime: Runtime
    directory: Path
    made: dict[str, Path]

    def __call__(
        self,
        name: str,
        *closure: str,
        program: str,
        files: Mapping[str, str | bytes] | None = None,
        **settings: Any,
    ) -> Path:
        if name not in self.made:
            work = self.directory / name
            work.mkdir(parents=True)
            command = [sys.executable, "-m", "mystikos_tool", "appdir", "closure", *closure]
            done = subprocess.run(
                [*command, "-o", work / "appdir"], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
            for path, content in {**ACCOUNTS, **(files or {})}.items():
                target = work / "appdir" / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content.encode() if isinstance(content, str) else content)
            members = {"ApplicationPath": program, "HostApplicationParameters": True, "MemorySize": "1g"}
            members["CurrentWorkingDirectory"] = "/tmp"
            self.made[name] = make_package(
                work / "made", self.runtime, work / "appdir", {**members, **settings}
            )
        return self.made[name]


@pytest.fixture(scope="module")
def make(runtime: Runtime, public_directory: Path) -> Maker:
    return Maker(runtime, public_directory / "real", {})


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def serving(caller: Caller, package: Path, port: int, *arguments: str) -> Iterator[None]:
    """A package that serves until the end, when SIGTERM has to end it."""
    with caller.start(package, *arguments, stderr=subprocess.STDOUT) as process:
        end = time.monotonic() + SECONDS
        while process.poll() is None and time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.02)
        else:
            process.kill()
            pytest.fail(process.communicate()[0])
        yield
        process.terminate()
        process.communicate(timeout=SECONDS)


def talk(port: int, *lines: str) -> list[str]:
    """Send lines to a server, and return the line that answers each."""
    with socket.create_connection(("127.0.0.1", port), SECONDS) as connection:
        stream = connection.makefile("rw", newline="")
        answers = []
        for line in lines:
            stream.write(f"{line}\r\n")
            stream.flush()
            answers.append(stream.readline().rstrip())
        return answers


def printed(caller: Caller, package: Path, *arguments: str) -> str:
    done = caller.run(package, "--myst-quiet", *arguments, timeout=SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


def nginx_configuration(port: int, processes: str) -> str:
    return f"""
        daemon off; {processes}; pid /tmp/nginx.pid; error_log stderr;
        events {{ worker_connections 64; }}
        http {{
            access_log off; client_body_temp_path /tmp/a; proxy_temp_path /tmp/b; fastcgi_temp_path /tmp/c;
            uwsgi_temp_path /tmp/d; scgi_temp_path /tmp/e;
            server {{ listen 127.0.0.1:{port}; root /srv; }}
        }}"""


# A master process asks for signals of a socket (FIOASYNC) before it starts each worker, and waits by
# rt_sigsuspend: Mystikos has neither.
def test_nginx_with_workers_is_stopped_by_what_mystikos_does_not_have(make: Maker, caller: Caller) -> None:
    program = installed("nginx")
    files = {"etc/test.conf": nginx_configuration(free_port(), "worker_processes 2"), "var/log/nginx/x": ""}
    package = make("nginx-workers", program, program=program, files=files, ForkMode="pseudo")
    done = caller.run(package, "-c", "/etc/test.conf", timeout=SECONDS)
    assert done.returncode == 128 + signal.SIGSYS
    assert 'ioctl(FIOASYNC) failed while spawning "worker process"' in done.stderr
    assert "system call rt_sigsuspend (130) is not handled by Mystikos" in done.stderr


def test_nginx_serves_a_file_by_one_process(make: Maker, caller: Caller) -> None:
    program, port = installed("nginx"), free_port()
    configuration = nginx_configuration(port, "master_process off")
    name, files = f"nginx-{port}", {"etc/test.conf": configuration, "srv/page": "hello from nginx"}
    package = make(name, program, program=program, files={**files, "var/log/nginx/x": ""})
    with serving(caller, package, port, "-c", "/etc/test.conf"):
        for _ in range(20):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/page", timeout=SECONDS) as answer:
                assert answer.read() == b"hello from nginx"


def test_redis_keeps_and_counts(make: Maker, caller: Caller) -> None:
    program, port = installed("redis-server"), free_port()
    words = ("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes")
    with serving(caller, make("redis", program, program=program), port, *words):
        answers = talk(port, "SET key value", "STRLEN key", *["INCR count"] * 100, "PING")
    assert answers == ["+OK", ":5", *(f":{number}" for number in range(1, 101)), "+PONG"]


def test_memcached_keeps_as_another_user(make: Maker, caller: Caller) -> None:
    program, port = installed("memcached"), free_port()
    words = ("-u", "nobody", "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-t", "4")
    with serving(caller, make("memcached", program, program=program), port, *words):
        assert talk(port, "set key 0 0 5\r\nvalue", "get key")[0] == "STORED"
        assert talk(port, "incr none 1", "get key") == ["NOT_FOUND", "VALUE key 0 5"]


def test_sqlite_counts_what_it_was_given(make: Maker, caller: Caller) -> None:
    program = installed("sqlite3")
    package = make("sqlite", program, program=program)
    script = (
        "create table t(n integer primary key, x text); "
        "with recursive c(n) as (select 1 union all select n + 1 from c where n < 20000) "
        "insert into t select n, hex(n) from c; create index i on t(x); "
        "select count(*), sum(n) from t; pragma integrity_check;"
    )
    assert printed(caller, package, "/tmp/data.db", script).splitlines() == ["20000|200010000", "ok"]


PYTHON = """
import hashlib, subprocess, sys, threading
found = []
def work(number):
    found.append(hashlib.sha256(bytes([number]) * 100000).hexdigest())
threads = [threading.Thread(target=work, args=(number,)) for number in range(50)]
for thread in threads: thread.start()
for thread in threads: thread.join()
def start(code):
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
children = [start(f"print({n} ** 2)") for n in range(5)]
print(len(set(found)), [int(child.communicate()[0]) for child in children])
print(subprocess.run([sys.executable, "-c", "import sys; sys.exit(7)"]).returncode)
"""


def test_python_runs_threads_and_processes(make: Maker, caller: Caller) -> None:
    program = os.path.realpath("/usr/bin/python3")
    library = f"/usr/lib/{Path(program).name}"
    if not Path(library).is_dir():
        pytest.skip("python3 of the distribution is not installed")
    package = make("python", program, library, program=program, **FORKS)
    assert printed(caller, package, "-c", PYTHON).splitlines() == ["50 [0, 1, 4, 9, 16]", "7"]


NODE = """
const {Worker} = require('worker_threads'), http = require('http'), fs = require('fs')
fs.writeFileSync('/tmp/file', 'written')
const server = http.createServer((request, answer) => answer.end(fs.readFileSync('/tmp/file')))
server.listen(0, '127.0.0.1', () => http.get({port: server.address().port, host: '127.0.0.1'}, answer => {
    answer.on('data', data => console.log('' + data)); answer.on('end', () => server.close())
}))
new Worker('require("worker_threads").parentPort.postMessage(6 * 7)', {eval: true}).on('message', console.log)
"""


def node(make: Maker) -> Path:
    program = installed("node")
    return make("node", program, program=program, MemorySize="4g", UnhandledSyscallEnosys=True, Debug=True)


def test_node_serves_and_runs_workers_where_a_console_has_flags_as_on_linux(
    make: Maker, caller: Caller
) -> None:
    shown = printed(caller, node(make), "--myst-linux", "-e", NODE)
    assert sorted(shown.splitlines()) == ["42", "written"]


def test_node_aborts_for_the_flags_of_a_console_as_under_mystikos_and_is_told_why(
    make: Maker, caller: Caller
) -> None:
    done = caller.run(node(make), "-e", NODE, timeout=SECONDS)
    assert done.returncode == 128 + signal.SIGABRT
    assert "(s.flags) != (-1)" in done.stderr
    assert "note: uses fcntl F_GETFL of a console" in done.stderr


JAVA = """
import java.nio.file.*; import java.util.stream.*;
public class Main {
    public static void main(String[] words) throws Exception {
        long sum = LongStream.rangeClosed(1, 1000000).parallel().sum();
        Thread[] threads = new Thread[20];
        for (int i = 0; i < threads.length; i++) (threads[i] = new Thread(() -> {})).start();
        for (Thread thread : threads) thread.join();
        Files.writeString(Path.of("/tmp/file"), "written");
        System.out.println(sum + " " + Files.readString(Path.of("/tmp/file")));
    }
}
"""


def test_a_jvm_runs_threads(make: Maker, caller: Caller, tmp_path: Path) -> None:
    program, compiler = os.path.realpath(installed("java")), installed("javac")
    (tmp_path / "Main.java").write_text(JAVA)
    subprocess.run([compiler, "-d", tmp_path, tmp_path / "Main.java"], check=True)
    home = Path(program).parent.parent
    # Its libraries find each other by themselves.
    own = {path: path.read_bytes() for path in (home / "lib").rglob("*") if path.is_file()}
    files = {str(path).lstrip("/"): content for path, content in own.items() if "src.zip" not in path.name}
    files["app/Main.class"] = (tmp_path / "Main.class").read_bytes()
    settings = {"MemorySize": "4g", "UnhandledSyscallEnosys": True}
    package = make("java", program, f"{home}/lib/server", program=program, files=files, **settings)
    words = ("-Xmx256m", "-XX:ReservedCodeCacheSize=64m", "-XX:CompressedClassSpaceSize=64m", "-Xshare:off")
    assert printed(caller, package, *words, "-cp", "/app", "Main") == "500000500000 written\n"


def test_dotnet_lists_its_runtimes(make: Maker, caller: Caller) -> None:
    found = shutil.which("dotnet")
    if found is None:
        pytest.skip("needs dotnet, which Debian does not have")
    program = os.path.realpath(found)
    home = str(Path(program).parent)
    settings = {"MemorySize": "2g", "UnhandledSyscallEnosys": True}
    package = make("dotnet", program, home, program=program, **settings)
    assert "Microsoft.NETCore.App" in printed(caller, package, "--list-runtimes")


GO = """
package main
import ("fmt"; "io"; "net"; "net/http"; "sync")
func main() {
	listener, _ := net.Listen("tcp", "127.0.0.1:0")
	go http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.URL.Path)
	}))
	var group sync.WaitGroup
	results := make([]string, 100)
	for i := range results {
		group.Add(1)
		go func(i int) {
			defer group.Done()
			answer, err := http.Get(fmt.Sprintf("http://%s/%d", listener.Addr(), i))
			if err != nil { panic(err) }
			text, _ := io.ReadAll(answer.Body)
			answer.Body.Close()
			results[i] = string(text)
		}(i)
	}
	group.Wait()
	fmt.Println(results[0], results[99])
}
"""


def test_a_go_program_serves_a_hundred_goroutines(make: Maker, caller: Caller, tmp_path: Path) -> None:
    compiler = installed("go")
    (tmp_path / "main.go").write_text(GO)
    variables = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildmode=pie", "GO111MODULE": "off"}
    variables |= {"GOCACHE": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    target = tmp_path / "program"
    subprocess.run([compiler, "build", "-o", target, tmp_path / "main.go"], check=True, env=variables)
    package = make("go", f"bin/server={target}", program="/bin/server", MemorySize="2g")
    assert printed(caller, package) == "/0 /99\n"


SHELL = """
set -e
mkdir -p /tmp/a/b; cd /tmp/a
i=0; while [ $i -lt 50 ]; do echo "$i" > b/$i; i=$((i + 1)); done
ls b | wc -l
find . -type f | sort | head -n 1
cat b/* | awk '{ sum += $1 } END { print sum }'
(cd b && tar cf - .) | gzip | gunzip | tar tf - | grep -c '^./[0-9]'
echo text | sed s/t/T/ | tr x X
sh -c 'trap "echo trapped" EXIT; exit 3' || echo $?
"""


def test_busybox_runs_scripts_with_pipes(make: Maker, caller: Caller) -> None:
    program = installed("busybox")
    applets = (
        "sh",
        "ls",
        "wc",
        "find",
        "sort",
        "head",
        "cat",
        "awk",
        "tar",
        "gzip",
        "gunzip",
        "grep",
        "sed",
        "tr",
    )
    places = [f"bin/{name}={program}" for name in (*applets, "mkdir")]
    package = make("busybox", *places, program="/bin/sh", EnvironmentVariables=["PATH=/bin"], **FORKS)
    assert printed(caller, package, "-c", SHELL).split() == [
        *("50", "./b/0", "1225", "50", "TeXt", "trapped", "3"),
    ]
