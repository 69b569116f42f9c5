#!/usr/bin/env python3
"""differential.py HOST_A KEY_A HOST_B KEY_B [--ours] [--gateway] [--raw] [--only SUBSTRING] [-v]

Points the official AsyncRemoteWorkspace at two agent servers, runs every method
on both and compares the normalised results. One line for each case:

    ok NAME
    DIFF NAME a=... b=...
    meant NAME (why)

With --ours, A is a real server and B is the embedded one of this project: a
difference that is meant (see MEANT) is none, and a case in MEANT that does not
differ is one. With --gateway, B is behind a service: the same for what is in
MEANT_OF_A_GATEWAY. Exits 1 if anything differs. Run it with a Python that has openhands-sdk.
--raw adds cases sent by plain HTTP: status, JSON bodies, chosen headers.
A key of "-" means none. Everything is made in a fresh temporary directory of
each server, by commands, and removed at the end.
"""

import argparse
import asyncio
import logging
import os
import re
import sys
import tempfile
import time
from pathlib import Path

logging.disable(logging.CRITICAL)
os.environ.setdefault("OPENHANDS_SUPPRESS_BANNER", "1")

import httpx  # noqa: E402
from openhands.sdk.workspace.remote import AsyncRemoteWorkspace  # noqa: E402

NAMES = [
    "a b.txt", "plus+and&amp=.txt", "ünïcödé-日本.txt", 'quo"te\'s.txt', "per%41cent.txt", "semi;colon#hash?.txt",
    "-dash", ".hidden", "new\nline.txt", "deep/er/and/deeper/x.bin", "n" * 200, "tab\there", "trailing ", "😀",
]

GIT_SETUP = r"""
set -e
export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@x GIT_COMMITTER_NAME=A GIT_COMMITTER_EMAIL=a@x
export GIT_AUTHOR_DATE='2026-01-02T03:04:05+02:00' GIT_COMMITTER_DATE='2026-01-02T03:04:05+02:00'
mkdir repo empty plain space typechange many nested origin
git init -q -b main repo; cd repo
printf 'one\ntwo\n' >a.txt; printf 'crlf\r\nx\r\n' >crlf.txt; printf 'gone\n' >del.txt; printf 'a rather long line to be renamed\nand one more\n' >old.txt
printf '\0\1bin\377' >bin; printf 'nonl' >nonl; mkdir sub; echo s >sub/s.txt; printf '*.ign\n' >.gitignore; printf '\n  lead\n\n\n' >ws.txt; printf 'same\n' >same.txt
git add -A; git commit -qm 'first: "subject" é'
printf ' one\n2\n\n' >a.txt; printf 'crlf\r\ny\r\n' >crlf.txt; rm del.txt; git mv old.txt new.txt; echo u >'un tracked.txt'; echo x >x.ign
printf '\0\2\376' >bin; echo s2 >>sub/s.txt; echo n >sub/n; echo é >é.txt; echo t >tracked-é; git add tracked-é; head -c 1048577 /dev/zero | tr '\0' a >big.txt; : >empty.txt
printf '\n  lead\n\n' >ws.txt; printf 'staged\n' >staged; git add staged
cd ../empty; git init -q -b main; echo f >f
cd ../space; git init -q -b main; echo f >'sp ace'; git add -A; git commit -qm x; echo g >>'sp ace'
cd ../typechange; git init -q -b main; echo f >f; git add -A; git commit -qm x; rm f; ln -s nowhere f
cd ../nested; mkdir one two; git -C one init -q -b main; git -C two init -q -b main; echo 1 >one/f; echo 2 >two/f; echo 3 >none
cd ../origin; git init -q -b main; echo 1 >f; git add -A; git commit -qm one; cd ..; git clone -q origin clone 2>/dev/null; cd clone; git checkout -q -b work; echo 2 >>f; git commit -qam two; echo 3 >g
cd ../many; git init -q -b main; for i in 1 2 3; do echo $i >f; git add -A; git commit -qm "c$i"; done
cd ../plain; echo p >p.txt
echo done
"""


# Where the embedded server deliberately differs from a real 1.58, by case.
LIVE = "output is an event 100 ms after it was written, and not only at the end or with each MiB"
NAMES_AS_THEY_ARE = "the real one quotes names that are not ASCII, and turns the backslashes round"
NO_PAGES = "no web page has any business with it"
WHICH_START = "it says with the answer to a start which of its own starts it is"
MEANT = {
    "start, output while running, stop, output": LIVE,
    "stop of a command that ignores TERM": LIVE,
    "raw execute partial": LIVE + ": the order counts them",
    "raw execute chunks": LIVE + ": the order counts them",
    "git_changes '.'": NAMES_AS_THEY_ARE,
    "git_changes ''": NAMES_AS_THEY_ARE,
    "git_changes 'TMP/repo'": NAMES_AS_THEY_ARE,
    "git_changes 'TMP/repo/'": NAMES_AS_THEY_ARE,
    "raw changes ref HEAD": NAMES_AS_THEY_ARE,
    "git_changes 'TMP/space'": "the real one refuses everything when a changed file has a blank in its name",
    "git_changes 'TMP/typechange'": "the real one refuses everything when a file has become a link",
    "git_changes 'TMP'": "all three of these, in the repositories below",
    "server info: keys and types": "it says what it is, and tells its starts apart by an instance_id",
    "raw start whole float, unknown field": WHICH_START,
    "raw start empty cwd": WHICH_START,
    "raw cors": NO_PAGES,
    "raw cors foreign": NO_PAGES,
    "raw preflight": NO_PAGES,
}

# Where the gateway of a service deliberately differs from the server behind it.
NO_KEY = "a service tells nobody without a key what is there"
MEANT_OF_A_GATEWAY = {
    "raw unknown path, no key": NO_KEY,
    "raw wrong method, no key": NO_KEY,
    "raw start not JSON, no key": NO_KEY,
    "raw init": NO_KEY,
    "raw cors": NO_PAGES,
    "raw cors foreign": NO_PAGES,
    "raw preflight": NO_PAGES,
}
# Where both sides are the same server, one of them behind a gateway, and what is seen depends on whose command came last.
MEANT_OF_ONE_SERVER = {"raw search newest": "the head of the runtime is shown to nobody who comes through the gateway"}

# Output of more than one event: a search of a real server that runs while events are written can miss one of them, and the client
# never asks again. Such a case is tried again, but for an embedded server, which has no such excuse.
CAN_LOSE_A_CHUNK = {"execute output over one chunk", "execute both streams over one chunk"}
TRIES = 5


class Side:
    def __init__(self, label, host, key):
        self.label, self.host, self.key = label, host.rstrip("/"), None if key == "-" else key
        self.tmp = self.home = ""
        self.local = tempfile.mkdtemp(prefix=f"differential-{label}-")
        self.ws = self.make("/")

    def make(self, working_dir, key=...):
        return AsyncRemoteWorkspace(
            host=self.host, api_key=self.key if key is ... else key, working_dir=working_dir
        )

    def headers(self):
        return {"X-Session-API-Key": self.key} if self.key else {}


def normal(value, side):
    """Replace what may differ between two servers: hosts, directories, ids, times."""
    if hasattr(value, "model_dump"):
        return {"__class__": type(value).__name__, **normal(value.model_dump(mode="json"), side)}
    if isinstance(value, dict):
        return {k: normal(v, side) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [normal(v, side) for v in value]
    if isinstance(value, bytes):
        return normal(value.decode("latin-1"), side)
    if isinstance(value, str):
        from urllib.parse import quote

        for text, name in ((side.host, "HOST"), (side.local, "LOCAL"), (side.tmp, "TMP"), (side.home, "HOME")):
            if text and text != "/":
                value = value.replace(text, f"<{name}>").replace(quote(text, safe=""), f"<{name}>")
        value = re.sub(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "<UUID>", value)
        value = re.sub(r"(?<![0-9a-zA-Z])[0-9a-f]{32}(?![0-9a-zA-Z])", "<ID>", value)
        value = re.sub(r"(?<![0-9a-zA-Z])\d{20}_", "<NAME>_", value)
        value = re.sub(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z\b", "<TIME>", value)
        return value
    return value


CASES = []


def case(name):
    def add(function):
        CASES.append((name, function))
        return function

    return add


def execute(name, command, *, pre="", **options):
    async def run(side):
        given = {k: v.replace("TMP", side.tmp) if isinstance(v, str) else v for k, v in options.items()}
        return await side.ws.execute_command(command.replace("TMP", side.tmp), **given)

    CASES.append((f"execute {name}", run))


execute("success", "echo hello")
execute("silent", "true")
execute("empty command", "")
execute("non-zero", "exit 3")
execute("stderr", "echo out; echo err >&2; exit 7")
execute("not found", "nosuchcommand-xyz")
execute("syntax error", "if then")
execute("signal", "kill -9 $$")
execute("sighup and the words timed out", "echo timed out >&2; kill -1 $$")
execute("timeout 1.5 with partial output", "echo part; echo err >&2; sleep 4; echo never", timeout=1.5)
execute("timeout 2.5, trap", "trap 'echo late; exit 5' TERM; echo part; sleep 4 & wait", timeout=2.5)
execute("timeout 0.5", "echo x; sleep 1", timeout=0.5)
execute("timeout 0", "echo x", timeout=0)
execute("negative timeout", "echo x", timeout=-1)
execute("cwd", "pwd", cwd="TMP")
execute("cwd as Path", "pwd", cwd=Path("/"))
execute("cwd with blanks", "mkdir -p 'TMP/a b ü'; cd 'TMP/a b ü' && pwd")
execute("cwd with blanks as parameter", "pwd", cwd="TMP/a b ü")
execute("bad cwd", "pwd", cwd="TMP/missing")
execute("cwd is a file", "pwd", cwd="/etc/passwd")
execute("empty cwd", "echo x", cwd="")
execute("tilde cwd", "echo x", cwd="~")
execute("big output 300 KB", "i=0; while [ $i -lt 3000 ]; do printf '%0100d' $i; i=$((i+1)); done")
execute("output over one chunk", "head -c 2500000 /dev/zero | tr '\\0' x; echo end")
execute("both streams over one chunk", "head -c 1500000 /dev/zero | tr '\\0' x; head -c 1200000 /dev/zero | tr '\\0' y >&2; exit 4")
execute("exactly one chunk", "head -c 1048576 /dev/zero | tr '\\0' x")
execute("unicode", "printf 'ünïcödé 日本 😀\\n'; echo ß >&2")
execute("bytes that are not UTF-8", r"printf '\377\376a\0b\033[1m\r\n\t'")
execute("U+2028 and friends", r"printf 'a\342\200\250b\302\205c\014d'")
execute("NUL in the command", "echo a\0b")
execute("multi-line", "echo 1\necho 2\n\n# comment\necho 3")
execute("here-document", "cat <<X\n$HOME\nX", cwd="/")
execute("quotes", "echo \"a'b\" '$x' \\\\ `echo y`")
execute("stdin at its end", "cat | wc -c | tr -d ' '")
execute("the shell", "echo $0; readlink -f /proc/$$/exe")
execute("environment", "echo $AI_AGENT; env | grep -c -E '^(SESSION_API_KEY|OH_SESSION_API_KEYS_|OH_SECRET_KEY)'")
execute("own session and group", "set -- $(cat /proc/$$/stat); [ $5 = $$ ] && [ $6 = $$ ] && echo leader")
execute("umask and limits", "umask")
execute("longest command", "#" + "x" * 131_060 + "\necho")
execute("command too long", "#" + "x" * 131_100)
execute("sub-shells wait for background children", "(sleep 0.4; echo late) & echo first")


@case("execute 20 at once")
async def _(side):
    results = await asyncio.gather(*[side.ws.execute_command(f"echo {i}; exit {i}") for i in range(20)])
    return [(r.exit_code, r.stdout) for r in results]


@case("execute with a wrong key")
async def _(side):
    return await side.make("/", key="wrong").execute_command("echo x")


@case("execute without a key")
async def _(side):
    return await side.make("/", key=None).execute_command("echo x")


@case("start, output while running, stop, output")
async def _(side):
    command = await side.ws.start_command("echo begun; trap 'echo trapped; exit 9' TERM; sleep 20 & wait", cwd=side.tmp, timeout=15)
    await asyncio.sleep(0.5)
    before = await side.ws.get_command_output(command)
    started = time.time()
    stopped = await side.ws.stop_command(command)
    quick = time.time() - started < 1.5
    for _ in range(30):
        after = await side.ws.get_command_output(command)
        if after:
            break
        await asyncio.sleep(0.1)
    again = await side.ws.stop_command(command)
    return [before, stopped, quick, after, again, list(after), after["command_id"] == command, re.fullmatch("[0-9a-f]{32}", command) is not None]


@case("stop of a command that ignores TERM")
async def _(side):
    command = await side.ws.start_command("trap '' TERM; echo begun; sleep 20 & wait; wait; sleep 20", timeout=15)
    await asyncio.sleep(0.4)
    started = time.time()
    await side.ws.stop_command(command)
    took = time.time() - started
    for _ in range(30):
        after = await side.ws.get_command_output(command)
        if after:
            break
        await asyncio.sleep(0.1)
    return [after, 0.8 < took < 2.5]


@case("stop of an unknown id")
async def _(side):
    return await side.ws.stop_command("0" * 32)


@case("stop of a bad id")
async def _(side):
    return await side.ws.stop_command("zz")


@case("output of an unknown id")
async def _(side):
    return await side.ws.get_command_output("0" * 32)


@case("output of a bad id")
async def _(side):
    return await side.ws.get_command_output("zz")


@case("output of the newest command")
async def _(side):
    await side.ws.execute_command("echo newest")
    return await side.ws.get_command_output()


@case("output by a dashed id")
async def _(side):
    command = await side.ws.start_command("echo dashed")
    await asyncio.sleep(0.5)
    import uuid

    return await side.ws.get_command_output(str(uuid.UUID(command)).upper())


@case("start in a bad directory")
async def _(side):
    command = await side.ws.start_command("pwd", cwd=side.tmp + "/missing")
    await asyncio.sleep(0.5)
    return await side.ws.get_command_output(command)


def upload(name, content, destination, *, as_bytes=False, source="source file.bin"):
    async def run(side):
        path = Path(side.local, source)
        if content is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        target = destination.replace("TMP", side.tmp)
        result = await side.ws.file_upload(content if as_bytes else path, target)
        seen = await side.ws.execute_command('f=$(printf %sx "$FILE"); f=${f%x}; stat -c "%s %a" "$f"; sha256sum <"$f"'.replace("$FILE", target.replace('"', '\\"').replace("$", "\\$").replace("`", "\\`")))
        return [result, seen.exit_code, seen.stdout]

    CASES.append((f"upload {name}", run))


upload("text", b"hello\n", "TMP/up/text.txt")
upload("again, shorter", b"hi", "TMP/up/text.txt")
upload("0 bytes", b"", "TMP/up/zero")
upload("bytes", bytes(range(256)) * 10, "TMP/up/bytes", as_bytes=True)
upload("3 MB", bytes(range(256)) * 12000, "TMP/up/big")
upload("source is missing", None, "TMP/up/none", source="missing/source")
upload("relative", b"x", "relative/path")
upload("empty path", b"x", "")
upload("to a directory", b"x", "TMP/up")
upload("below a file", b"x", "TMP/up/text.txt/below")
upload("far below a file", b"x", "TMP/up/text.txt/far/below")
upload("to /proc", b"x", "/proc/nothing/here")
upload("name too long", b"x", "TMP/" + "n" * 300)
upload("awkward local name", b"x", "TMP/up/local", source='so "ur" ü\n%.txt')
for name in NAMES:
    upload(f"name {name[:24]!r}", name.encode(), "TMP/names/" + name)


@case("upload keeps mode and follows links")
async def _(side):
    t = side.tmp
    await side.ws.execute_command(f"mkdir -p {t}/m; echo old >{t}/m/f; chmod 755 {t}/m/f; ln -s f {t}/m/l")
    result = await side.ws.file_upload(b"new", f"{t}/m/l")
    seen = await side.ws.execute_command(f"cd {t}/m; stat -c '%n %F %a %s' f l; cat f")
    return [result, seen]


@case("upload with a wrong key")
async def _(side):
    return await side.make("/", key="wrong").file_upload(b"x", side.tmp + "/never")


def download(name, source, *, prepare=None, destination="down/target"):
    async def run(side):
        if prepare:
            await side.ws.execute_command(prepare.replace("TMP", side.tmp))
        target = Path(side.local, destination)
        target.unlink(missing_ok=True)
        result = await side.ws.file_download(source.replace("TMP", side.tmp), target)
        data = target.read_bytes() if target.exists() else None
        return [result, None if data is None else (len(data), data[:100], hash_of(data))]

    CASES.append((f"download {name}", run))


def hash_of(data):
    import hashlib

    return hashlib.sha256(data).hexdigest()


download("text", "TMP/down.txt", prepare="printf 'some text\\n' >TMP/down.txt")
download("0 bytes", "TMP/down.0", prepare=": >TMP/down.0")
download("3 MB", "TMP/up/big")
download("missing", "TMP/missing")
download("a directory", "TMP")
download("relative", "relative")
download("empty path", "")
download("a device", "/dev/null")
download("name too long", "TMP/" + "n" * 300)
download("through a link", "TMP/down.link", prepare="ln -s down.txt TMP/down.link")
download("a dangling link", "TMP/dangling", prepare="ln -s nowhere TMP/dangling")
download("dots", "TMP/up/../down.txt")
for name in NAMES:
    download(f"name {name[:24]!r}", "TMP/names/" + name)


@case("git setup")
async def _(side):
    return await side.ws.execute_command(GIT_SETUP, cwd=side.tmp)


def changes(path):
    async def run(side):
        return await side.make(side.tmp + "/repo/").git_changes(path.replace("TMP", side.tmp))

    CASES.append((f"git_changes {path!r}", run))


def diff(path):
    async def run(side):
        return await side.make(side.tmp + "/repo").git_diff(path.replace("TMP", side.tmp))

    CASES.append((f"git_diff {path!r}", run))


for path in (".", "", "sub", "TMP/repo", "TMP/repo/", "TMP/repo/sub", "TMP/repo/a.txt", "TMP/empty", "TMP/plain", "TMP/missing", "TMP/space",
             "TMP/typechange", "TMP/nested", "TMP/clone", "TMP/many", "TMP", "/"):
    changes(path)
for path in ("a.txt", "crlf.txt", "del.txt", "old.txt", "new.txt", "bin", "nonl", "sub/s.txt", "sub/n", "sub", ".", "un tracked.txt", "é.txt", "tracked-é", "big.txt",
             "empty.txt", "ws.txt", "same.txt", "staged", "x.ign", "missing.txt", "TMP/plain/p.txt", "TMP/plain/none", "TMP/empty/f", "TMP/clone/f", "TMP/clone/g",
             "TMP/space/sp ace", "TMP/typechange/f", "TMP/nested/one/f", "/etc/passwd"):
    diff(path)


@case("git with a wrong key")
async def _(side):
    return await side.make(side.tmp, key="wrong").git_changes(".")


@case("alive")
async def _(side):
    return await asyncio.to_thread(lambda: side.ws.alive)


@case("server info: keys and types")
async def _(side):
    info = await side.ws.get_server_info()
    return {k: type(v).__name__ for k, v in info.items() if not isinstance(v, (type(None)))} | {"title": info["title"], "whole": info["uptime"] == int(info["uptime"])}


@case("reset_client, then use")
async def _(side):
    await side.ws.reset_client()
    return await side.ws.execute_command("echo after reset")


@case("async with")
async def _(side):
    async with side.make("/") as workspace:
        return await workspace.execute_command("echo within")


@case("runtime credentials without a conversation")
async def _(side):
    return await side.ws.get_runtime_session_key()


RAW = [
    # name, method, path, options for httpx
    ("no key", "GET", "/api/bash/bash_events/search", {"key": None}),
    ("unknown path", "GET", "/api/nope", {}),
    ("unknown path, no key", "GET", "/nope", {"key": None}),
    ("wrong method", "GET", "/api/bash/start_bash_command", {}),
    ("wrong method, no key", "PUT", "/api/file/upload", {"key": None}),
    ("HEAD", "HEAD", "/health", {}),
    ("trailing slash", "GET", "/health/", {}),
    ("alive", "GET", "/alive", {"key": None}),
    ("health", "GET", "/health", {"key": None}),
    ("ready", "GET", "/ready", {"key": None}),
    ("init", "GET", "/api/init", {"key": None}),
    ("search limit 0", "GET", "/api/bash/bash_events/search?limit=0", {}),
    ("search all wrong", "GET", "/api/bash/bash_events/search?limit=101&kind__eq=Foo&command_id__eq=zz&timestamp__gte=yes&order__gt=a&sort_order=ASC", {}),
    ("search an empty id", "GET", "/api/bash/bash_events/search?command_id__eq=", {}),
    ("search nothing", "GET", "/api/bash/bash_events/search?timestamp__gte=2999-01-01T00:00:00Z", {}),
    ("search first", "GET", "/api/bash/bash_events/search?limit=1", {}),
    ("search newest", "GET", "/api/bash/bash_events/search?limit=2&sort_order=TIMESTAMP_DESC", {}),
    ("search an unknown page", "GET", "/api/bash/bash_events/search?limit=1&page_id=bogus", {}),
    ("event unknown", "GET", "/api/bash/bash_events/zzz", {}),
    ("start no body", "POST", "/api/bash/start_bash_command", {}),
    ("start not JSON", "POST", "/api/bash/start_bash_command", {"content": "{", "type": "application/json"}),
    ("start not JSON, no key", "POST", "/api/bash/start_bash_command", {"content": "{", "type": "application/json", "key": None}),
    ("start empty object", "POST", "/api/bash/start_bash_command", {"json": {}}),
    ("start array", "POST", "/api/bash/start_bash_command", {"json": []}),
    ("start wrong types", "POST", "/api/bash/start_bash_command", {"json": {"command": 1, "cwd": 2, "timeout": "x"}}),
    ("start fraction", "POST", "/api/bash/start_bash_command", {"json": {"command": "x", "timeout": 1.5}}),
    ("start null timeout", "POST", "/api/bash/start_bash_command", {"json": {"command": "x", "timeout": None}}),
    ("start whole float, unknown field", "POST", "/api/bash/start_bash_command", {"json": {"command": "true", "timeout": 5.0, "more": 1}}),
    ("start empty cwd", "POST", "/api/bash/start_bash_command", {"json": {"command": "true", "cwd": ""}}),
    ("execute", "POST", "/api/bash/execute_bash_command", {"json": {"command": "echo o; echo e >&2; exit 3"}}),
    ("execute partial", "POST", "/api/bash/execute_bash_command", {"json": {"command": "echo o; sleep 5", "timeout": 1}}),
    ("execute at once", "POST", "/api/bash/execute_bash_command", {"json": {"command": "echo o", "timeout": 0}}),
    ("execute chunks", "POST", "/api/bash/execute_bash_command", {"json": {"command": "head -c 3000000 /dev/zero | tr '\\0' x"}}),
    ("stop bad id", "POST", "/api/bash/bash_commands/zz/stop", {}),
    ("stop unknown", "POST", "/api/bash/bash_commands/" + "0" * 32 + "/stop", {}),
    ("upload no path no file", "POST", "/api/file/upload", {}),
    ("upload no file", "POST", "/api/file/upload?path=/TMP/raw", {}),
    ("upload other part", "POST", "/api/file/upload?path=TMP/raw", {"files": {"other": ("x", b"x")}}),
    ("upload plain field", "POST", "/api/file/upload?path=TMP/raw", {"files": {"file": (None, b"x")}}),
    ("upload", "POST", "/api/file/upload?path=TMP/raw", {"files": {"file": ("x", b"raw text")}}),
    ("upload bad multipart", "POST", "/api/file/upload?path=TMP/raw", {"content": "garbage", "type": "multipart/form-data; boundary=AA"}),
    ("upload no boundary", "POST", "/api/file/upload?path=TMP/raw", {"content": "x", "type": "multipart/form-data"}),
    ("download", "GET", "/api/file/download?path=TMP/raw", {}),
    ("download no path", "GET", "/api/file/download", {}),
    ("range 0-0", "GET", "/api/file/download?path=TMP/raw", {"range": "bytes=0-0"}),
    ("range 2-", "GET", "/api/file/download?path=TMP/raw", {"range": "bytes=2-"}),
    ("range -2", "GET", "/api/file/download?path=TMP/raw", {"range": "bytes=-2"}),
    ("range 0-99", "GET", "/api/file/download?path=TMP/raw", {"range": "bytes=0-99"}),
    ("range beyond", "GET", "/api/file/download?path=TMP/raw", {"range": "bytes=99-"}),
    ("range of empty", "GET", "/api/file/download?path=TMP/down.0", {"range": "bytes=0-0"}),
    ("range malformed", "GET", "/api/file/download?path=TMP/raw", {"range": "foo"}),
    ("create directory", "POST", "/api/file/create_directory?path=TMP/cd/x", {}),
    ("create directory again", "POST", "/api/file/create_directory?path=TMP/cd/x", {}),
    ("create directory relative", "POST", "/api/file/create_directory?path=x", {}),
    ("create directory on a file", "POST", "/api/file/create_directory?path=TMP/raw", {}),
    ("create directory below a file", "POST", "/api/file/create_directory?path=TMP/raw/x", {}),
    ("search_subdirs", "GET", "/api/file/search_subdirs?path=TMP", {}),
    ("search_subdirs page", "GET", "/api/file/search_subdirs?path=TMP&limit=2", {}),
    ("search_subdirs next", "GET", "/api/file/search_subdirs?path=TMP&limit=2&page_id=empty", {}),
    ("search_subdirs missing", "GET", "/api/file/search_subdirs?path=TMP/zz", {}),
    ("search_subdirs file", "GET", "/api/file/search_subdirs?path=TMP/raw", {}),
    ("search_subdirs relative", "GET", "/api/file/search_subdirs?path=x&limit=1.0", {}),
    ("search_subdirs limit", "GET", "/api/file/search_subdirs?path=TMP&limit=101", {}),
    ("home", "GET", "/api/file/home", {}),
    ("home bad bool", "GET", "/api/file/home?include_hidden=maybe", {}),
    ("changes ref HEAD", "GET", "/api/git/changes?path=TMP/repo&ref=HEAD", {}),
    ("changes bad ref", "GET", "/api/git/changes?path=TMP/repo&ref=nope", {}),
    ("changes zero ref", "GET", "/api/git/changes?path=TMP/repo&ref=" + "0" * 40, {}),
    ("changes zero ref, no repository", "GET", "/api/git/changes?path=TMP/plain&ref=" + "0" * 40, {}),
    ("changes no path", "GET", "/api/git/changes", {}),
    ("diff both", "GET", "/api/git/diff?path=TMP/repo/a.txt&ref=HEAD&commit=abcd", {}),
    ("diff bad commit", "GET", "/api/git/diff?path=TMP/repo/a.txt&commit=HEAD", {}),
    ("diff unknown commit", "GET", "/api/git/diff?path=TMP/repo/a.txt&commit=abcd", {}),
    ("diff ref HEAD", "GET", "/api/git/diff?path=TMP/repo/a.txt&ref=HEAD", {}),
    ("commits", "GET", "/api/git/commits?path=TMP/many", {}),
    ("commits limit", "GET", "/api/git/commits?path=TMP/many&limit=2", {}),
    ("commits limit 201", "GET", "/api/git/commits?path=TMP/many&limit=201", {}),
    ("commits none", "GET", "/api/git/commits?path=TMP/plain", {}),
    ("commit changes bad", "GET", "/api/git/commits/zzzz/changes?path=TMP/many", {}),
    ("commit changes unknown", "GET", "/api/git/commits/abcd/changes?path=TMP/many", {}),
    ("archive no repository", "GET", "/api/file/archive?path=TMP/plain", {}),
    ("archive missing", "GET", "/api/file/archive?path=TMP/zz", {}),
    ("cors", "GET", "/health", {"origin": "http://localhost:3000"}),
    ("cors foreign", "GET", "/health", {"origin": "http://evil.example"}),
    ("preflight", "OPTIONS", "/api/bash/start_bash_command", {"origin": "http://localhost:3000", "preflight": "POST"}),
]

HEADERS = ("content-type", "content-range", "accept-ranges", "content-disposition", "allow", "location", "access-control-allow-origin",
           "access-control-allow-credentials")


def raw(name, method, path, options):
    async def run(side):
        options_now = dict(options)
        headers = side.headers() if options_now.pop("key", True) else {}
        for option, header in (("type", "Content-Type"), ("range", "Range"), ("origin", "Origin"), ("preflight", "Access-Control-Request-Method")):
            if option in options_now:
                headers[header] = options_now.pop(option)
        async with httpx.AsyncClient(timeout=60) as client:
            answer = await client.request(method, side.host + path.replace("TMP", side.tmp), headers=headers, **options_now)
        try:
            body = answer.json()
        except ValueError:
            body = answer.text
        if isinstance(body, dict) and "home" in body:
            body["favorites"] = len(body["favorites"])
        if isinstance(body, dict) and name.startswith("search first") or name.startswith("search an unknown"):
            body = list(body), [list(item) for item in body["items"]], type(body["next_page_id"]).__name__
        return [answer.status_code, answer.reason_phrase, body, {h: answer.headers.get(h) for h in HEADERS}]

    CASES.append((f"raw {name}", run))


async def outcomes(name, function, sides, ours):
    """What a case comes to on both sides."""
    a, b = [await outcome(function, side) for side in sides]
    tries = 1
    while a != b and name in CAN_LOSE_A_CHUNK and tries < TRIES:
        a, again = [await outcome(function, side) for side in sides]
        tries += 1
        if ours and again != b:
            return again, b
        b = again
    return a, b


async def outcome(function, side):
    try:
        value = await function(side)
    except Exception as error:
        value = {"raised": type(error).__name__, "text": str(error)}
    return normal(value, side)


def short(value, other, limit=500):
    text, others = repr(value), repr(other)
    if len(text) > limit:
        first = next((i for i, (x, y) in enumerate(zip(text, others)) if x != y), min(len(text), len(others)))
        start = max(0, first - 80)
        where = "" if value == other else f", differ at {first}"
        text = f"({len(text)} characters{where}) ...{text[start:start + limit]}"
    return text


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("host_a"), parser.add_argument("key_a"), parser.add_argument("host_b"), parser.add_argument("key_b")
    parser.add_argument("--ours", action="store_true"), parser.add_argument("--gateway", action="store_true"), parser.add_argument("--raw", action="store_true"), parser.add_argument("--only", default=""), parser.add_argument("-v", action="store_true")
    given = parser.parse_args()
    if given.raw:
        for item in RAW:
            raw(*item)
    meant_here = {**(MEANT if given.ours else {}), **(MEANT_OF_A_GATEWAY if given.gateway else {})}
    if given.gateway and not given.ours:
        meant_here.update(MEANT_OF_ONE_SERVER)
    sides = [Side("a", given.host_a, given.key_a), Side("b", given.host_b, given.key_b)]
    for side in sides:
        made = await side.ws.execute_command("cd / && mktemp -d /tmp/differential.XXXXXXXX")
        side.tmp = made.stdout.strip()
        side.home = (await side.ws.execute_command("printf %s \"$HOME\"")).stdout
        if made.exit_code != 0 or not side.tmp:
            sys.exit(f"{side.host}: cannot make a temporary directory: {made}")
    differ = tried = 0
    for name, function in CASES:
        if given.only and given.only not in name and name != "git setup":
            continue
        # One after the other: the client's own sleep blocks the event loop.
        a, b = await outcomes(name, function, sides, given.ours)
        tried += 1
        meant = meant_here.get(name)
        if meant and a != b:
            print("meant", name, f"({meant})", *(["a=" + short(a, b), "b=" + short(b, a)] if given.v else []), flush=True)
        elif meant and name not in MEANT_OF_ONE_SERVER:
            differ += 1
            print("DIFF", name, "is the same on both, though it was meant to differ:", meant, flush=True)
        elif a == b:
            print("ok", name, *(["=", short(a, a, 300)] if given.v else []), flush=True)
        else:
            differ += 1
            print("DIFF", name, "a=" + short(a, b), "b=" + short(b, a), flush=True)
    for side in sides:
        await side.ws.execute_command(f"rm -rf {side.tmp}")
        await side.ws.reset_client()
        __import__("shutil").rmtree(side.local, ignore_errors=True)
    print(f"{differ} of {tried} differ" if differ else f"all {tried} the same", file=sys.stderr)
    sys.exit(1 if differ else 0)


asyncio.run(main())
