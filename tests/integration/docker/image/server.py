"""A stand-in for tensorflow_model_server: its mounts, flags, log lines and REST contract.

What it does is written in the model's saved_model.pb:
    load-error   says that the model cannot be loaded, and exits
    hang         never listens
    memory       takes memory until it is killed
    illegal      dies of an illegal instruction
    stubborn     serves, and ignores SIGTERM
Anything else is served.
"""

import argparse
import json
import os
import signal
import socketserver
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PLACE = "external/org_tensorflow/tensorflow/core/platform/cpu_feature_guard.cc:210]"
SIGNATURE = {
    "method_name": "tensorflow/serving/predict",
    "inputs": {"x": {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": "-1"}, {"size": "2"}]}}},
    "outputs": {"y": {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": "-1"}]}}},
}


def say(text):
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')}.000000: I {text}", file=sys.stderr, flush=True)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet, or every answer waits for an acknowledgement
    name, version = "", 0

    def do_GET(self):
        if self.path.endswith("/metadata"):
            definitions = {"signature_def": {"signature_def": {"serving_default": SIGNATURE}}}
            self.answer(200, {"metadata": definitions})
        elif self.path == f"/v1/models/{self.name}":
            self.answer(200, {"model_version_status": [{"version": str(self.version), "state": "AVAILABLE"}]})
        else:
            self.answer(404, {"error": "not found"})

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer(200, {"predictions": [sum(row) + self.version for row in request["instances"]]})

    def answer(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def versions(base):
    return sorted(int(each.name) for each in base.glob("*") if each.name.isdigit())


def main():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for flag in ("port", "rest_api_port", "max_num_load_retries"):
        parser.add_argument(f"--{flag}", type=int)
    for flag in ("model_name", "mixed_precision"):
        parser.add_argument(f"--{flag}")
    parser.add_argument("--model_base_path", type=Path)
    flags = parser.parse_args()
    say(f"{PLACE} This TensorFlow binary is optimized to use available CPU instructions.")
    say("To enable the following instructions: AVX2 FMA, in other operations, rebuild TensorFlow.")
    while not versions(flags.model_base_path):
        say(
            f"No versions of servable {flags.model_name} found under base path {flags.model_base_path}. "
            "Did you forget to name your leaf directory as a number (eg. '/1/')?"
        )
        time.sleep(1)
    version = versions(flags.model_base_path)[-1]
    identity = f"{{name: {flags.model_name} version: {version}}}"
    try:
        wish = (flags.model_base_path / str(version) / "saved_model.pb").read_text(encoding="latin-1").strip()
    except OSError as error:
        say(f"Encountered an error for servable version {identity}: {error}")
        sys.exit(255)
    if wish == "load-error":
        say(f"Loading servable: {identity} failed: NOT_FOUND: Op type not registered 'Nonsense'")
        sys.exit(255)
    if wish == "hang":
        time.sleep(600)
    if wish == "memory":
        taken = []
        while True:
            taken.append(bytearray(os.urandom(1 << 16) * 256))
    if wish == "illegal":
        os.kill(os.getpid(), signal.SIGILL)
    if wish == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    socketserver.TCPServer(("0.0.0.0", flags.port), socketserver.BaseRequestHandler)
    Handler.name, Handler.version = flags.model_name, version
    server = ThreadingHTTPServer(("0.0.0.0", flags.rest_api_port), Handler)
    say(f"Exporting HTTP/REST API at:localhost:{flags.rest_api_port} ...")
    server.serve_forever()


main()
