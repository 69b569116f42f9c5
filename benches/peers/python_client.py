"""The Python class as a contender: prints a sample as JSON.

    python_client.py URL WORKSPACES EACH AT_ONCE [COMMAND]

Runs EACH commands on each of WORKSPACES workspaces, AT_ONCE of them at once on each, from cold. Without COMMAND it is `true`, and the
workspaces have paths of their own below URL.
"""

import asyncio
import json
import resource
import sys
import time

from openhands.sdk.workspace.remote.async_remote_workspace import AsyncRemoteWorkspace


async def lane(workspace, count, command):
    for _ in range(count):
        result = await workspace.execute_command(command, timeout=120.0)
        assert result.exit_code == 0, result


async def main(url, workspaces, each, at_once, command=None):
    began, cpu = time.monotonic(), time.process_time()
    made = [
        AsyncRemoteWorkspace(
            host=url if command else f"{url}/w{number}", api_key="key" if command else None, working_dir="/tmp"
        )
        for number in range(workspaces)
    ]
    await asyncio.gather(
        *(
            lane(workspace, each // at_once, command or "true")
            for workspace in made
            for _ in range(at_once)
        )
    )
    return {
        "done": workspaces * (each // at_once) * at_once,
        "seconds": time.monotonic() - began,
        "cpu": time.process_time() - cpu,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], *map(int, sys.argv[2:5]), *sys.argv[5:]))))
