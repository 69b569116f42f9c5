"""Keeps what schemathesis makes up from doing harm to the machine: the workspaces are its own.

Commands become arguments of `true`, and paths that begin at the root begin in a temporary folder.
"""

import os
import shlex

import schemathesis

ROOT = os.environ["WSFLEET_SCHEMATHESIS_ROOT"]


@schemathesis.hook
def map_body(context, body):
    if isinstance(body, dict) and isinstance(body.get("command"), str):
        body = {**body, "command": "true " + shlex.quote(body["command"])}
    return body


@schemathesis.hook
def map_query(context, query):
    path = query.get("path") if isinstance(query, dict) else None
    if isinstance(path, str) and path.startswith("/"):
        query = {**query, "path": ROOT + "/" + path.replace("..", "__")}
    # What takes an hour takes too long here.
    if isinstance(query, dict):
        query = {name: ("50" if name in ("wait_ms", "timeout_ms") and str(value).isdigit() else value)
                 for name, value in query.items()}
    return query


@schemathesis.hook
def before_call(context, case, kwargs):
    # The examples and the cases of coverage come this way as well.
    if isinstance(case.body, dict) and isinstance(case.body.get("command"), str) and not case.body["command"].startswith("true "):
        case.body["command"] = "true " + shlex.quote(case.body["command"])
    path = (case.query or {}).get("path")
    if isinstance(path, str) and path.startswith("/") and not path.startswith(ROOT):
        case.query["path"] = ROOT + "/" + path.replace("..", "__")
    if isinstance(case.body, dict) and isinstance(case.body.get("wait_ms"), int) and case.body["wait_ms"] > 50:
        case.body["wait_ms"] = 50
