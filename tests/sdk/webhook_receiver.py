"""A receiver of webhooks that checks what comes with the public library of the Standard Webhooks project.

Environment: EZ_WEBHOOK_SECRET, EZ_WEBHOOK_ANSWERS (`500,204`: statuses of its answers to what the library takes, in their
order; 204 after the last one). It tells its port on the first line, and then a line of JSON for each request.
"""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

WEBHOOK = Webhook(os.environ["EZ_WEBHOOK_SECRET"])
ANSWERS = [int(status) for status in os.environ.get("EZ_WEBHOOK_ANSWERS", "").split(",") if status]
LOCK = Lock()


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        told = {"id": self.headers.get("webhook-id"), "path": self.path}
        try:
            told["event"] = WEBHOOK.verify(body, dict(self.headers))
            with LOCK:
                told["answer"] = ANSWERS.pop(0) if ANSWERS else 204
        except WebhookVerificationError as error:
            told |= {"refused": str(error), "answer": 401}
        with LOCK:
            print(json.dumps(told), flush=True)
        self.send_response(told["answer"])
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
print(server.server_port, flush=True)
server.serve_forever()
