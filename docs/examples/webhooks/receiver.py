# A receiver of Recado's webhooks in Python 3.9 or later, without packages:
#   WEBHOOK_SECRET=whsec_… PORT=3000 python3 receiver.py
import base64
import hashlib
import hmac
import json
import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOLERANCE = 5 * 60  # seconds
MAX_BODY = 1024 * 1024  # bytes; an event has at most 256 KiB

SECRET = os.environ["WEBHOOK_SECRET"]
KEY = base64.b64decode(SECRET[len("whsec_"):]) if SECRET.startswith("whsec_") else SECRET.encode()


def is_signed(headers, body):
    """Returns whether Recado signed these bytes within the last minutes.

    `body` holds the bytes as they came: JSON that was parsed and written again may differ.
    """
    event_id = headers.get("webhook-id", "")
    timestamp = headers.get("webhook-timestamp", "")
    is_number = timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12
    if not is_number or abs(time.time() - int(timestamp)) > TOLERANCE:
        return False
    signed = f"{event_id}.{timestamp}.".encode() + body
    expected = b"v1," + base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest())
    # There are two signatures for 24 hours after the secret was replaced.
    signatures = headers.get("webhook-signature", "").encode().split(b" ")
    return any(hmac.compare_digest(signature, expected) for signature in signatures)


def handle(event):
    # An event may come more than once. Keep event["id"] under a unique index together with what the event changes.
    print(f"verified {event['event']} {event['id']}", flush=True)


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        length = int(self.headers.get("content-length", 0))
        if length > MAX_BODY:
            return self.answer(413)
        body = self.rfile.read(length)
        if not is_signed(self.headers, body):
            print("refused", flush=True)
            return self.answer(401)
        handle(json.loads(body))
        # Answer within 15 seconds; do slow work later.
        self.answer(204)

    def answer(self, status):
        self.send_response(status)
        self.end_headers()

    def log_message(self, *arguments):
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "3000"))), Receiver)
    print("listening", flush=True)
    server.serve_forever()
