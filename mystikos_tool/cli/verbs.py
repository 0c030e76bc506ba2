"""The verbs: the one table of them. None of what they do is loaded before one runs."""

from __future__ import annotations

from mystikos_tool.cli.verb import Verb

VERBS = {
    verb.name: verb
    for verb in (
        Verb(
            "package-sgx",
            "make a package of an appdir or an archive, a key and a configuration",
            "appdir private.pem config.json --outfile hello",
            module="package",
            part="package",
            aliases=("package",),
        ),
        Verb(
            "sign-sgx",
            "make a signed directory, in the layout of an installed Mystikos",
            "rootfs.cpio private.pem config.json --outdir hello.signed",
            module="package",
            part="sign",
            aliases=("sign",),
        ),
        Verb(
            "digest",
            "write what is to be signed elsewhere, so that a package gets a production signature",
            "hello",
            module="offline",
            part="digest",
        ),
        Verb(
            "attach",
            "finish a package with a signature that was made elsewhere",
            "hello hello.statement.json hello.sig release.pub.pem --outfile hello.release",
            module="offline",
            part="attach",
        ),
        Verb(
            "run",
            "start a program of a directory or an archive at once, under Mystikos where it is installed",
            "--config config.json appdir /bin/hello one two",
            module="run",
            aliases=("exec-linux",),
            passes_on=True,
        ),
        Verb(
            "appdir",
            "make an appdir of programs with all that they need to start, or of a container image",
            "closure /usr/bin/python3 /usr/lib/python3.11 --extra certificates -o appdir",
            module="appdir",
            writes="output",
        ),
        Verb(
            "image",
            "write down which images tags stand for, so that they stay the same; prune the cache of layers",
            "lock docker.io/library/nginx:1.27",
            module="image",
            part="image",
        ),
        Verb(
            "mkcpio",
            "pack a directory into a CPIO archive",
            "appdir rootfs.cpio",
            module="archive",
            part="mkcpio",
            writes="archive",
        ),
        Verb(
            "excpio",
            "unpack a CPIO archive into a directory that is new or empty",
            "rootfs.cpio dir",
            module="archive",
            part="excpio",
        ),
        Verb(
            "dump-sgx",
            "show what a package says about itself",
            "hello --json",
            module="inspect",
            part="dump",
            aliases=("dump",),
        ),
        Verb(
            "inspect",
            "show what is in a package, its page layout and its files, also as a page with a picture",
            "hello --format html -o hello.html",
            module="explain",
            part="inspect",
        ),
        Verb(
            "verify",
            "prove what a package is: measure it anew, check its signature and what is expected",
            "hello --signer public.pem --no-debug",
            module="inspect",
            part="verify",
        ),
        Verb(
            "check",
            "tell what of an appdir or a package cannot work in the enclave, before anything runs",
            "appdir --config config.json --fail-on warning",
            module="explain",
            part="check",
        ),
        Verb(
            "diff",
            "tell why two packages are not the same enclave, or that they are",
            "hello hello.rebuilt",
            module="explain",
            part="diff",
        ),
        Verb(
            "sbom",
            "write the bill of materials of a package: its files and components, as CycloneDX 1.6",
            "hello -o hello.cdx.json",
            module="explain",
            part="sbom",
        ),
        Verb(
            "provenance",
            "state what a package was made of, by digest: in-toto, SLSA",
            "hello appdir config.json -o hello.provenance.json",
            module="explain",
            part="provenance",
        ),
        Verb(
            "rebuild",
            "make a package again from the inputs that its provenance names, and tell whether it is the same",
            "hello --from hello.provenance.json --signer public.pem",
            module="explain",
            part="rebuild",
        ),
        Verb(
            "policy",
            "write what a relying party holds the enclave to, in the form of those who check it",
            "hello --format maa",
            module="relying",
            part="policy",
        ),
        Verb(
            "check-quote",
            "show an SGX quote and hold its report to a policy",
            "quote.bin --policy hello.policy.json",
            module="relying",
            part="check_quote",
        ),
        Verb(
            "sgxs",
            "export the measured stream of a package, whose SHA-256 is MRENCLAVE",
            "hello hello.sgxs",
            module="relying",
            part="sgxs",
            writes="file",
        ),
        Verb(
            "mkext2",
            "make an ext2 disk of a directory, integrity-protected, signed and encrypted as asked",
            "appdir app.disk --sign public.pem:private.pem",
            module="disk",
            part="mkext2",
            writes="disk",
        ),
        Verb(
            "fssig",
            "check the hash tree of a disk and show its root hash and signature",
            "app.disk --roothash",
            module="disk",
            part="fssig",
        ),
        Verb(
            "schema",
            "print the JSON schema of the configuration, for an editor, or of what verify prints",
            "> config.schema.json",
            module="schema",
        ),
        Verb(
            "keygen",
            "make a signing key in a new file",
            "private.pem",
            module="keys",
            part="keygen",
        ),
        Verb(
            "completion",
            "print the script that completes command lines in bash, zsh or fish",
            "bash > ~/.local/share/bash-completion/completions/mystikos-tool",
            module="shell",
            part="completion",
        ),
        Verb(
            "man",
            "print the manual page",
            "> ~/.local/share/man/man1/mystikos-tool.1",
            module="shell",
            part="manual",
        ),
    )
}

# What a verb is called on the command line: its own name and its other ones.
NAMES = {name: verb for verb in VERBS.values() for name in (verb.name, *verb.aliases)}
