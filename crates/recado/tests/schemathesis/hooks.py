"""What no schema can say is left out of the cases here, so that the checks may stay strict."""

import os
import uuid
from datetime import datetime, timedelta, timezone

import schemathesis

OWN_KEY = os.environ["RECADO_TEST_KEY_ID"]


@schemathesis.hook
def before_call(context, case, kwargs):
    # The key that asks is listed, and revoking it would make every later answer a 401.
    if case.path_parameters.get("keyId") == OWN_KEY:
        case.path_parameters["keyId"] = str(uuid.uuid4())
    if not is_valid(case):
        return
    # A cursor is one of the list's own; an invented one is refused.
    if isinstance(case.query, dict):
        case.query.pop("cursor", None)
        # Nor does a schema know that the last page depends on the limit.
        if "page" in case.query:
            case.query["page"] = 1
        # Nothing happens while the tool waits.
        case.query.pop("wait", None)
        # `page` times `limit` is bounded, and a schema says nothing of products.
        if "page" in case.query:
            case.query["page"] = 1
        if case.path.endswith("/messages"):
            case.query = with_its_filters(case.query)
        # A page has no events that nothing stores, and a schema knows no headers.
        if case.path == "/v1/events" and isinstance(case.query.get("events"), str):
            case.query["events"] = ",".join(map(stored, case.query["events"].split(",")))
    # A schema does not say which invisible characters a reference may not have.
    if isinstance(case.query, dict) and "reference" in case.query:
        case.query["reference"] = "pedido-4711"
    for part in parts(case.body):
        # A pattern covers characters of the basic plane alone: among the others are some that do not show.
        for name, value in part.items():
            if is_odd(value):
                part[name] = "Maria"
            elif isinstance(value, list):
                part[name] = ["Maria" if is_odd(item) else item for item in value]
    if isinstance(case.body, dict) and "/messages" in case.path:
        as_it_can_be(case.body)
    # It asks with a test key, and a schema knows no environment.
    if isinstance(case.body, dict) and case.path.endswith("/simulate/incoming"):
        simulated(case.body)
    elif isinstance(case.body, dict) and "type" in case.body and "/messages" not in case.path:
        case.body["type"] = "SANDBOX"
    # A channel of the sandbox has no settings and is linked to nothing, and a schema knows no types of channels.
    if isinstance(case.body, dict) and "settings" in case.body:
        del case.body["settings"]
    if isinstance(case.body, dict) and case.path.endswith("/connect"):
        case.body = {}
    # A schema does not say which addresses are allowed, nor which channels there are. No server listens there.
    if isinstance(case.body, dict) and case.path.startswith("/v1/webhooks"):
        if case.body.get("url"):
            case.body["url"] = "http://127.0.0.1:1024/recado"
        if case.body.get("channelIds"):
            case.body["channelIds"] = ["sandbox"]
        # Nor does it say that names of headers are compared without case.
        if case.body.get("headers"):
            case.body["headers"] = {"X-Gateway": "recado"}
        if isinstance(case.body.get("secret"), str):
            case.body["secret"] = "um segredo de teste"
    # Nor that one time is before another.
    if isinstance(case.body, dict) and case.path.endswith("/replay") and case.body.get("to"):
        case.body.update({"from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z"})
    # A schema knows no "now".
    if isinstance(case.body, dict) and case.body.get("expiresAt"):
        case.body["expiresAt"] = "2999-12-31T23:59:59Z"


def with_its_filters(query):
    # The messages of a conversation, received messages and sent ones have filters of their own.
    if "conversationId" in query:
        known = ("direction", "limit", "conversationId")
    elif query.get("direction") == "INBOUND":
        known = ("direction", "limit", "from")
    else:
        known = [name for name in query if name != "from"]
    return {name: value for name, value in query.items() if name in known}


def stored(event):
    return "message.*" if event.startswith(("typing.", "presence.")) else event


def is_odd(value):
    return isinstance(value, str) and any(ord(character) > 0xFFFF for character in value)


def as_it_can_be(call):
    # A schema knows no "now", and no message that can be quoted.
    if call.get("sendAt"):
        call["sendAt"] = (datetime.now(timezone.utc) + timedelta(days=1)).isoformat()
    call.pop("replyTo", None)
    if call.get("reference"):
        call["reference"] = "pedido-4711"
    for part in parts(call):
        # Nor does its pattern know how many days a month has.
        if part.get("birthday"):
            part["birthday"] = "1990-08-18"


def simulated(call):
    # A schema knows neither the channels nor the messages that are there.
    call.pop("channelId", None)
    call.pop("replyTo", None)
    content = call.get("content") or {}
    if "messageId" in content:
        content["messageId"] = "3EB0459984FC15DDAB10A5"
    # Nor does it say what an emoji is.
    if content.get("emoji"):
        content["emoji"] = "\N{THUMBS UP SIGN}"
    # Nor which addresses are allowed. No server listens there.
    if content.pop("mediaId", None) or "url" in content:
        content["url"] = "http://127.0.0.1:1024/recado"


def parts(value):
    """Every object in a body."""
    if isinstance(value, dict):
        yield value
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    for child in children:
        yield from parts(child)


def is_valid(case):
    return case.meta is not None and case.meta.generation.mode.is_positive
