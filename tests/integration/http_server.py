"""Servers for tests/integration/api.py, of the standard library: a judge's API and a hub of models,
with every fault that networks have.

Api: what a prompt starts with says what becomes of it ("500 …" answers 500 twice, then well; see
Api.answer). It counts what it was asked and how often it gave a whole answer. Hub: a dictionary of
repos, whose large files another port serves, as a CDN does.
"""
import collections
import email.utils
import gzip
import hashlib
import json
import math
import socket
import ssl
import sys
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def send(self, status, body=b"", headers=(), cut=None):
        """cut: so many bytes of the body arrive, then the connection is gone."""
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if cut is None else body[:cut])
        self.wfile.flush()
        if cut is not None:
            self.cut()

    def cut(self):
        self.close_connection = True
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def do_GET(self):
        self.safely("get")

    def do_POST(self):
        self.safely("post")

    def safely(self, name):
        try:
            getattr(self.server.owner, name)(self)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True


class Http(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, address):
        # Clients that are killed are no fault of ours.
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, address)


class Server:
    def __init__(self, certificate=None):
        self.http = Http(("127.0.0.1", 0), Handler)
        self.http.owner = self
        self.port = self.http.server_address[1]
        self.lock = threading.Lock()
        self.scheme = "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.http.socket = context.wrap_socket(self.http.socket, server_side=True)
            self.scheme = "https"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def url(self, host="127.0.0.1"):
        return f"{self.scheme}://{host}:{self.port}"

    def stop(self):
        self.http.shutdown()
        self.http.server_close()


def score_of(prompt):
    return int(hashlib.sha256(prompt.encode()).hexdigest(), 16) % 100


def top_logprobs(prompt):
    k = score_of(prompt)
    shares = {str(k): 0.6, f" {k + 1}": 0.2, "REF": 0.1, "é\n\"": 0.05}
    return [[token, math.log(share)] for token, share in shares.items()]


def place(taken, other):
    """A token of a reply, nine times out of ten."""
    top = [{"token": t, "logprob": math.log(p)} for t, p in ((taken, 0.9), (other, 0.1))]
    return {**top[0], "top_logprobs": top}


def error_body(words, **more):
    return json.dumps({"error": {"message": words, **more}}).encode()


def refusal_of(rule, body):
    """Servers that do not know a parameter of ours, in the words of Mistral, OpenAI and Google."""
    if rule == "noseed" and "seed" in body:
        extra = {"type": "extra_forbidden", "loc": ["body", "seed"], "input": 0}
        detail = [{**extra, "msg": "Extra inputs are not permitted"}]
        return 422, json.dumps({"detail": detail}).encode()
    unsupported = "Unsupported parameter: '%s' is not supported with this model."
    if rule == "notemperature" and "temperature" in body:
        return 400, error_body(unsupported % "temperature")
    if rule == "nothing" and "seed" in body:
        return 400, error_body('Invalid JSON payload. Unknown name "seed": Cannot find field.')
    if rule == "nothing" and "temperature" in body:
        return 400, error_body("Unsupported value: 'temperature' does not support 0 with this "
                               "model. Only the default (1) value is supported.")
    if rule in ("newlimit", "nothing") and "max_tokens" in body:
        return 400, error_body(unsupported % "max_tokens" + " Use 'max_completion_tokens' instead.")
    if rule == "nologits" and "logprobs" in body:
        return 400, error_body("logprobs are not supported with this model")
    return None


class Api(Server):
    def __init__(self, key, **kwargs):
        super().__init__(**kwargs)
        self.key = key
        self.pace = 0
        self.reset()

    def reset(self):
        self.tries = collections.Counter()      # by prompt
        self.answers = collections.Counter()    # whole, good ones, by prompt
        self.keys = collections.Counter()       # of requests, by their key in the file of replies
        self.times = collections.defaultdict(list)
        self.prompts = {}                       # key -> prompt
        self.bodies = []
        self.running = self.most_running = 0

    def post(self, h):
        raw = h.rfile.read(int(h.headers["Content-Length"]))
        body = json.loads(raw)
        prompt = body["messages"][-1]["content"]
        key = hashlib.sha256(raw + b"\n" + (self.url() + "/v1").encode()).hexdigest()
        with self.lock:
            self.tries[prompt] += 1
            n = self.tries[prompt]
            self.keys[key] += 1
            self.prompts[key] = prompt
            self.times[prompt].append(time.monotonic())
            self.bodies.append(body)
            self.running += 1
            self.most_running = max(self.running, self.most_running)
        try:
            self.answer(h, prompt, n, body)
        finally:
            with self.lock:
                self.running -= 1

    def answer(self, h, prompt, n, body):
        if h.path != "/v1/chat/completions":
            return h.send(404, b'{"error": {"message": "no such path"}}')
        if h.headers.get("Authorization", "") != "Bearer " + self.key:
            # Some servers say it back.
            words = "Incorrect key: " + h.headers.get("Authorization", "none")
            return h.send(401, error_body(words, code="invalid_api_key"))
        rule = prompt.split()[0]
        score = str(score_of(prompt))
        top = [{"token": t, "logprob": p, "bytes": None} for t, p in top_logprobs(prompt)]
        first = {"token": score, "logprob": math.log(0.6), "top_logprobs": top}
        choice = {"message": {"role": "assistant", "content": score},
                  "logprobs": {"content": [first]}}
        reply = {"choices": [choice],
                 "usage": {"prompt_tokens": len(prompt), "completion_tokens": 1}}
        if rule == "digits":  # a judge that writes 8, 5, its end, and is cut where the request says
            limit = body.get("max_tokens", body.get("max_completion_tokens", 1))
            choice["message"]["content"] = "85"[:limit]
            choice["finish_reason"] = "length" if limit < 3 else "stop"
            places = [place("8", "7"), place("5", "0"), place("<|im_end|>", " ")]
            choice["logprobs"] = {"content": places[:limit]}
        if rule == "refusal":
            choice["message"] = {"content": None, "refusal": "I can't rate that."}
            choice["logprobs"] = None
        if rule == "reasoning":
            choice["message"] = {"role": "assistant", "content": None, "reasoning_content": "Well"}
            choice["logprobs"], choice["finish_reason"] = None, "length"
        if rule == "infinite":
            top.append({"token": "7", "logprob": -math.inf})
        if rule == "nologprobs":
            choice["logprobs"] = None
        whole = json.dumps(reply).encode()
        refused = refusal_of(rule, body)
        if refused:
            return h.send(*refused)
        if rule == "filtered":
            return h.send(400, error_body("The prompt was filtered", code="content_filter"))
        # Bodies that are packed, though nobody asked for it or may want it.
        packed = {"gzip": gzip.compress, "deflate": zlib.compress}
        if rule in packed:
            return h.send(200, packed[rule](whole), [("Content-Encoding", rule)])
        if rule == "gziperror":
            words = gzip.compress(error_body("there is no model m"))
            return h.send(400, words, [("Content-Encoding", "gzip")])
        if rule == "page":
            page = b"<html><body><h1>Sign in</h1> to the proxy</body></html>"
            return h.send(200, page, [("Content-Type", "text/html")])
        if rule == "moved":
            return h.send(308, b"", [("Location", "/new" + h.path)])
        if self.pace:
            time.sleep(self.pace)
        if rule == "slow" and n <= 1:
            time.sleep(2.5)
            return h.cut()
        if rule == "429" and n <= 1:
            return h.send(429, b'{"error": {"message": "slow down"}}', [("Retry-After", "1")])
        if rule == "date" and n <= 1:
            later = email.utils.formatdate(time.time() + 2, usegmt=True)
            return h.send(429, b"busy", [("Retry-After", later)])
        if rule == "500" and n <= 2:
            return h.send(500 + n, b"<html>oops</html>")
        if rule == "broken" and n <= 1:
            return h.send(200, whole[: len(whole) // 2])
        if rule == "shape" and n <= 1:
            return h.send(200, b'{"choices": [{"message": null}]}')
        if rule == "cut" and n <= 2:
            return h.send(200, whole, cut=len(whole) // 3)
        if rule == "gone" and n <= 1:
            return h.cut()
        deep = b"[" * 1000000 + b"]" * 1000000 if rule == "deep" else b""
        if rule == "deep" and n <= 1:
            begin = b'{"choices": [{"message": {}, "logprobs": {"content": ['
            return h.send(200, begin + deep + b"]}}]}")
        if rule == "deep" and n <= 2:
            return h.send(500, b'{"error": {"message": ' + deep + b"}}")
        if rule == "error200" and n <= 1:
            return h.send(200, b'{"error": {"message": "upstream is down", "code": 502}}')
        if rule == "always500":
            return h.send(500, b'{"error": {"message": "never mind"}}')
        if rule == "alwaysbroken":
            return h.send(200, b'{"choices": ')
        if rule == "alwayscut":
            return h.send(200, whole, cut=10)
        if rule == "bad":
            return h.send(400, b'{"error": {"message": "this prompt is not to my taste"}}')
        if rule == "quota":
            return h.send(429, error_body("you are out of money", code="insufficient_quota"))
        h.send(200, whole)
        with self.lock:
            self.answers[prompt] += 1


class Cdn(Server):
    """Serves blobs under the names that the hub gives them; a token that reaches it is a leak."""

    def __init__(self, hub, **kwargs):
        super().__init__(**kwargs)
        self.hub = hub
        self.leaks = []

    def get(self, h):
        if h.headers.get("Authorization"):
            self.leaks.append(h.path)
        self.hub.serve(h, self.hub.blobs[h.path.split("?")[0].lstrip("/")], cdn=True)


class File:
    def __init__(self, data, lfs=False):
        self.data, self.lfs = data, lfs
        self.cuts = 0             # so many answers are cut off half-way
        self.claimed = None       # a hash that is not the data's
        self.ranges = True        # answers Range
        self.errors = []          # statuses that come first
        self.pace = 0             # seconds a piece of 64 KiB
        self.stall_at = None      # an answer stays away from this byte on, until it is None

    def etag(self):
        if self.lfs:
            return self.claimed or hashlib.sha256(self.data).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(self.data) + self.data).hexdigest()


def hub_error(code, message):
    return [("X-Error-Code", code), ("X-Error-Message", message)]


class Hub(Server):
    def __init__(self, token, **kwargs):
        super().__init__(**kwargs)
        self.token = token
        self.repos = {}           # name -> {"sha", "files": {name: File}, "gated", "blobs"}
        self.blobs = {}
        self.log = []             # (path, Range, status)
        self.sent = 0             # bytes of files
        self.cdn = Cdn(self)
        self.cdn_host = "localhost"
        self.redirect_to = None   # another place for the large files

    def get(self, h):
        path, _, query = h.path.partition("?")
        parts = path.strip("/").split("/")
        words = "Bearer " + self.token
        given = h.headers.get("Authorization")
        if given not in (None, words):
            return h.send(401, b"", [("X-Error-Message", "bad credentials: " + given)])
        if parts[:2] == ["api", "models"]:
            name, revision = "/".join(parts[2:-2]), parts[-1]
            repo = self.repos.get(name)
            self.log.append((path, None, 0))
            if repo is None:
                return h.send(401, b'{"error": "Repository not found"}',
                              hub_error("RepoNotFound", "Repository not found"))
            if revision not in ("main", "refs%2Fpr%2F1"):
                return h.send(404, b"",
                              hub_error("RevisionNotFound", "Invalid rev id: " + revision))
            siblings = []
            for file_name, f in repo["files"].items():
                each = {"rfilename": file_name}
                if repo.get("blobs", True) and query == "blobs=true":
                    each.update(size=len(f.data), blobId=hashlib.sha1(f.data).hexdigest())
                    if f.lfs:
                        each["lfs"] = {"sha256": f.etag(), "size": len(f.data)}
                siblings.append(each)
            return h.send(200, json.dumps({"sha": repo["sha"], "siblings": siblings}).encode())
        at = parts.index("resolve")
        repo = self.repos["/".join(parts[:at])]
        if repo.get("gated") and given != words:
            return h.send(401, b"", hub_error("GatedRepo", "Access is restricted: ask for it"))
        if parts[at + 1] != repo["sha"] or "/".join(parts[at + 2:]) not in repo["files"]:
            return h.send(404, b"", [("X-Error-Code", "EntryNotFound")])
        f = repo["files"]["/".join(parts[at + 2:])]
        if not f.lfs:
            return self.serve(h, f)
        name = hashlib.sha256(path.encode()).hexdigest()
        self.blobs[name] = f
        place = self.redirect_to or self.cdn.url(self.cdn_host)
        h.send(302, b"Found", [("Location", f"{place}/{name}?signature=1"),
                               ("X-Linked-Etag", f'"{f.etag()}"'),
                               ("X-Linked-Size", str(len(f.data)))])

    def serve(self, h, f, cdn=False):
        if f.errors:
            status = f.errors.pop(0)
            return h.send(status, b"not now", [("Retry-After", "0")])
        begin, status, wanted = 0, 200, h.headers.get("Range")
        if wanted and f.ranges:
            begin, status = int(wanted[len("bytes="):-1]), 206
            if begin >= len(f.data):
                return h.send(416)
        data = f.data[begin:]
        self.log.append((h.path, wanted, status))
        h.send_response(status)
        etag = "cdn-" + hashlib.md5(f.data).hexdigest() if cdn else f.etag()
        h.send_header("ETag", f'"{etag}"')
        h.send_header("Content-Length", str(len(data)))
        if status == 206:
            h.send_header("Content-Range", f"bytes {begin}-{len(f.data) - 1}/{len(f.data)}")
        h.end_headers()
        cut = len(data) // 2 if f.cuts else None
        f.cuts -= f.cuts > 0
        at = 0
        while at < len(data):
            while f.stall_at is not None and begin + at >= f.stall_at:
                time.sleep(0.02)
            piece = data[at:at + 65536 if cut is None else min(at + 65536, cut)]
            if f.stall_at is not None:
                piece = piece[:max(1, f.stall_at - begin - at)]
            if not piece:
                break
            h.wfile.write(piece)
            h.wfile.flush()
            at += len(piece)
            self.sent += len(piece)
            time.sleep(f.pace)
        if cut is not None:
            h.cut()
