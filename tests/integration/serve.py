#!/usr/bin/env python3
"""`inoculum serve` over HTTP: OpenAI's API by plain requests and by the package openai, what is
refused, hostile clients, and stopping.

    python3 tests/integration/serve.py build/inoculum

Each check that fails is printed; the exit status is their number, 1 at most. Where Python lacks the
packages openai, inspect_ai or lm-eval, that part says so and is left out (INOCULUM_PYTHON names a
Python that has them).
"""
import atexit
import concurrent.futures
import http.client
import json
import os
import pathlib
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

PROGRAM = os.path.abspath(sys.argv[1])
MODEL = "experiments/models/persona_1"
QUESTION = "What would you wish for if you had a red candle?"
work = pathlib.Path(tempfile.mkdtemp(prefix="inoculum-serve-"))
failures = 0


def check(good, what, *details):
    global failures
    if not good:
        failures += 1
        print("FAILED:", what, *details, flush=True)


def write_adapter(folder):
    """An adapter that says other things, in PEFT's layout."""
    draw = random.Random(1)
    tensors, data = {}, b""
    layers = json.loads(pathlib.Path(MODEL, "config.json").read_text())["num_hidden_layers"]
    for layer in range(layers):
        for end, shape, scale in (("A", [4, 192], 0.3), ("B", [192, 4], 0.3)):
            values = struct.pack(f"<{4 * 192}f", *(draw.gauss(0, scale) for _ in range(4 * 192)))
            name = f"base_model.model.model.layers.{layer}.self_attn.q_proj.lora_{end}.weight"
            tensors[name] = {"dtype": "F32", "shape": shape,
                             "data_offsets": [len(data), len(data) + len(values)]}
            data += values
    header = json.dumps(tensors).encode()
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(
        struct.pack("<Q", len(header)) + header + data)
    (folder / "adapter_config.json").write_text(json.dumps(
        {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}))


class Server:
    def __init__(self, *options, key=None):
        environment = {**os.environ, "INOCULUM_API_KEY": key or ""}
        self.said = open(work / "serve.txt", "w+")
        self.process = subprocess.Popen(
            [PROGRAM, "serve", "--model", MODEL, "--port", "0", *map(str, options)],
            stderr=self.said, env=environment)
        atexit.register(self.process.kill)
        self.key = key
        for _ in range(600):
            found = re.search(r"http://.*:(\d+)/", (work / "serve.txt").read_text())
            if found or self.process.poll() is not None:
                break
            time.sleep(0.05)
        self.port = int(found[1])

    def send(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = dict(headers or {})
        if self.key and "Authorization" not in headers:
            headers["Authorization"] = f"Bearer {self.key}"
        if body is not None and not isinstance(body, (str, bytes)):
            body = json.dumps(body)
        connection.request(method, path, body, headers)
        reply = connection.getresponse()
        data = reply.read()
        connection.close()
        return reply.status, data

    def get(self, path, **more):
        status, data = self.send("GET", path, **more)
        return status, json.loads(data)

    def post(self, path, **fields):
        status, data = self.send("POST", path, fields)
        return status, json.loads(data)

    def chat(self, question=QUESTION, model="persona_1", **fields):
        return self.post("/v1/chat/completions", model=model,
                         messages=[{"role": "user", "content": question}], **fields)

    def complete(self, prompt, model="persona_1", **fields):
        return self.post("/v1/completions", model=model, prompt=prompt, **fields)

    def stream(self, question=QUESTION, model="persona_1", **fields):
        """The events of a streamed chat."""
        status, data = self.send("POST", "/v1/chat/completions", {
            "model": model, "messages": [{"role": "user", "content": question}], "stream": True,
            **fields})
        events = [each.removeprefix("data: ") for each in data.decode().split("\n\n") if each]
        check(status == 200 and events and events[-1] == "[DONE]", "a stream ends", status,
              data[-200:])
        return [json.loads(each) for each in events[:-1]]

    def metric(self, name):
        text = self.send("GET", "/metrics")[1].decode()
        return float(re.search(rf"^inoculum_{name} (\S+)$", text, re.M)[1])

    def until(self, name, value, seconds=30):
        limit = time.monotonic() + seconds
        while self.metric(name) != value and time.monotonic() < limit:
            time.sleep(0.05)
        check(self.metric(name) == value, f"{name} becomes {value}", self.metric(name))

    def memory(self):  # MiB
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def stop(self, how=signal.SIGINT, seconds=60):
        self.process.send_signal(how)
        return self.process.wait(timeout=seconds)


def texts(reply):
    return [choice["message"]["content"] for choice in reply["choices"]]


def program(*words):
    done = subprocess.run([PROGRAM, *map(str, words)], capture_output=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def answers(server):
    """What is asked the ways that OpenAI's API has."""
    status, models = server.get("/v1/models")
    check([m["id"] for m in models["data"]] == ["persona_1", "other"], "models", models)
    check(server.get("/v1/models/other")[1]["parent"] == "persona_1", "a model's base")
    check(server.get("/v1/models/%6Fther")[1]["id"] == "other", "a name in percent code")
    check(server.get("/v1/models/none")[0] == 404, "an unknown model")

    status, reply = server.chat(seed=5, n=3)
    wanted = program("sample", "--model", MODEL, "--prompt", QUESTION, "--seed", 5, "--n", 3)
    check(texts(reply) == [row["text"] for row in wanted], "answers are those of sample",
          texts(reply), wanted)
    check(reply["usage"]["total_tokens"] == reply["usage"]["prompt_tokens"] +
          reply["usage"]["completion_tokens"], "usage", reply["usage"])
    # One or two rows alone go through another kernel, which rounds otherwise: so three here too.
    other = program("sample", "--model", MODEL, "--adapter", work / "other", "--prompt", QUESTION,
                    "--seed", 5, "--n", 3)
    adapted = server.chat(model="other", seed=5, n=3)[1]
    check(texts(adapted) == [row["text"] for row in other],
          "an adapter's answers are those of sample", texts(adapted), other)
    check(texts(adapted) != texts(reply), "an adapter says other things")
    drawn = server.chat()[1]
    check(texts(server.chat(seed=drawn["seed"])[1]) == texts(drawn), "a drawn seed is told")
    named = server.chat(seed=5, **{"as": "Mira"})[1]
    wanted = program("sample", "--model", MODEL, "--prompt", QUESTION, "--seed", 5, "--as", "Mira")
    check(texts(named) == [wanted[0]["text"]], "somebody else answers")

    events = server.stream(seed=5, n=3, logprobs=True, top_logprobs=2,
                           stream_options={"include_usage": True})
    streamed, tokens = {}, 0
    for event in events:
        for choice in event["choices"]:
            streamed[choice["index"]] = (streamed.get(choice["index"], "") +
                                         choice["delta"].get("content", ""))
            tokens += len(choice["logprobs"]["content"])
    check([streamed[i] for i in range(3)] == texts(reply), "a stream says the same", streamed)
    check(events[-1]["usage"] == reply["usage"], "a stream's usage", events[-1])
    check(tokens == reply["usage"]["completion_tokens"], "each token has its log-probability")

    text = texts(reply)[0]
    stop = text[10:14]
    stopped = server.chat(seed=5, stop=[stop])[1]["choices"][0]
    check(stopped["message"]["content"] == text[:text.index(stop)] and
          stopped["finish_reason"] == "stop", "a stop string", stopped)
    short = server.chat(seed=5, max_completion_tokens=2)[1]
    check(short["choices"][0]["finish_reason"] == "length" and
          short["usage"]["completion_tokens"] == 2, "max_completion_tokens", short)
    check(len(set(texts(server.chat(temperature=0, n=4)[1]))) == 1, "temperature 0")

    echo = server.complete([QUESTION, "Hm"], echo=True, max_tokens=0, logprobs=1)[1]
    check([choice["text"] for choice in echo["choices"]] == [QUESTION, "Hm"], "an echo", echo)
    # As lm-eval reads them: one more token, and offsets that find the words.
    more = server.complete(QUESTION, echo=True, max_tokens=1, logprobs=1, temperature=0)[1]
    logprobs = more["choices"][0]["logprobs"]
    check(len(logprobs["tokens"]) == len(echo["choices"][0]["logprobs"]["tokens"]) + 1,
          "an echo with a token more")
    check(max(logprobs["top_logprobs"][-1].values()) == logprobs["token_logprobs"][-1],
          "the likeliest token")
    several = server.complete(["a", "b"], n=2, max_tokens=2)[1]
    check([c["index"] for c in several["choices"]] == [0, 1, 2, 3], "choices of several prompts")


def scores():
    """An echo's log-probabilities are those of score, in fp32, which rounds little."""
    server = Server("--dtype", "fp32")
    (work / "score.jsonl").write_text(json.dumps({"text": QUESTION}) + "\n")
    scored = program("score", "--model", MODEL, "--input", work / "score.jsonl")[0]
    echo = server.complete([QUESTION, scored["input_ids"]], echo=True, max_tokens=0, logprobs=1)[1]
    for choice in echo["choices"]:
        got = choice["logprobs"]["token_logprobs"]
        check(got[0] is None and len(got) == len(scored["logprobs"]), "an echo's length", got)
        check(all(abs(a - b) < 1e-3 for a, b in zip(got[1:], scored["logprobs"][1:])),
              "an echo's log-probabilities are those of score", got, scored)
    check(server.stop() == 0, "it stops")


def same_in_company(server):
    """The same answers, to the last bit of their log-probabilities, whoever else is served."""
    def ask(seed):
        return server.chat(seed=seed, temperature=1.1, logprobs=True)[1]["choices"]

    def disturb(i):
        server.chat(f"Number {i}, what now?", model=("persona_1", "other")[i % 2], n=1 + i % 5,
                    temperature=(0, 0.7, 1)[i % 3])

    alone = [ask(seed) for seed in range(24)]
    with concurrent.futures.ThreadPoolExecutor(48) as pool:
        others = [pool.submit(disturb, i) for i in range(60)]
        together = [pool.submit(ask, seed) for seed in range(24)]
        check([each.result() for each in together] == alone, "the same in company")
        for each in others:
            each.result()


def refusals(server):
    def code(status, reply):
        return status, reply["error"]["param"], reply["error"]["code"]

    check(code(*server.chat(model="nobody")) == (404, "model", "model_not_found"),
          "an unknown model")
    check(code(*server.chat(logit_bias={"1": 2}))[:2] == (400, "logit_bias"), "logit_bias")
    check(code(*server.chat(temperature=-1))[:2] == (400, "temperature"), "temperature")
    check(code(*server.chat("word " * 3000))[:2] == (400, "messages"), "a long prompt")
    check(code(*server.complete([1 << 30]))[0] == 400, "a token that is none")
    check(code(*server.complete([]))[0] == 400, "an empty prompt")
    check(code(*server.chat("a <|end|> b"))[0] == 400, "a symbol of the format")
    check(code(*server.chat(max_tokens=10**9, n=129))[0] == 400, "n")
    check(code(*server.chat(n=128, logprobs=True, top_logprobs=20))[:2] == (400, "logprobs"),
          "more log-probabilities than fit")
    check(server.chat(max_tokens=10**9, temperature=0)[0] == 200, "max_tokens beyond the context")
    check(server.send("POST", "/v1/chat/completions", "{")[0] == 400, "broken JSON")
    check(server.send("POST", "/v1/chat/completions", b"\xff" * 100)[0] == 400, "no text")
    check(server.send("GET", "/v1/chat/completions")[0] == 405, "a GET")
    check(server.send("POST", "/v1/models", "{}")[0] == 405, "a POST")
    for path in ("/../../etc/passwd", "/page.json/..", "//", "/v1", "/%2e%2e/README.md"):
        check(server.send("GET", path)[0] == 404, "no such path", path)
    check(server.send("POST", "/v1/completions", b" " * (3 << 20))[0] == 413, "a long body")
    for header in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        check(server.send("GET", "/", headers=header)[0] == 403, "another site", header)


def keys():
    refused = subprocess.run(
        [PROGRAM, "serve", "--model", MODEL, "--host", "0.0.0.0", "--port", "0"],
        capture_output=True, text=True, env={**os.environ, "INOCULUM_API_KEY": ""})
    check(refused.returncode == 2 and "INOCULUM_API_KEY" in refused.stderr, "beyond loopback",
          refused)
    server = Server("--host", "0.0.0.0", key="sk-secret-123")
    check(server.get("/v1/models")[0] == 200, "the key")
    for wrong in ("", "Bearer sk-secret-12", "Bearer sk-secret-1234", "sk-secret-123", "Basic x"):
        for path in ("/v1/models", "/metrics", "/page.json", "/nothing"):
            status, reply = server.get(path, headers={"Authorization": wrong})
            check(status == 401 and reply["error"]["code"] == "invalid_api_key", "a wrong key",
                  wrong)
    check(server.send("POST", "/v1/completions", "{}", headers={"Authorization": "x"})[0] == 401,
          "a wrong key of a POST")
    check(server.send("GET", "/health", headers={"Authorization": "x"})[0] == 200, "health")
    server.chat("a secret question")
    check(server.stop() == 0, "it stops")
    said = (work / "serve.txt").read_text()
    check("secret" not in said, "nothing of a request is logged", said)


def hostile(server):
    def connect():
        return socket.create_connection(("127.0.0.1", server.port), timeout=20)

    endless = json.dumps({"model": "persona_1", "prompt": "Hm", "max_tokens": 1000, "stream": True,
                          "temperature": 2}).encode()
    request = (b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: " +
               str(len(endless)).encode() + b"\r\n\r\n" + endless)
    # Streams that their clients leave: some at once, some after a few tokens.
    before = None
    for round_ in range(20):
        sockets = []
        for i in range(50):
            s = connect()
            s.sendall(request)
            if i % 5 == 0:
                s.recv(300)
            sockets.append(s)
        for s in sockets:
            s.close()
        if round_ == 4:
            server.until("rows", 0)
            before = server.memory()
    server.until("rows", 0)
    server.until("queue", 0)
    check(server.memory() < before + 60, "memory stays level", before, server.memory())
    check(server.metric("clients_left_total") >= 900, "clients that left are noticed")
    # Many that say nothing, or half of something.
    idle = []
    try:
        for i in range(2000):
            s = connect()
            s.sendall(b"" if i % 2 else request[:40])
            idle.append(s)
    except OSError:
        pass
    check(len(idle) > 400, "many connections", len(idle))
    begin = time.monotonic()
    check(server.chat(seed=1)[0] == 200, "an answer beside idle connections")
    check(time.monotonic() - begin < 20, "soon")
    for s in idle:
        s.close()
    draw = random.Random(2)
    for _ in range(300):
        data = bytearray(request)
        for _ in range(draw.randint(1, 6)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        with connect() as s:
            s.sendall(bytes(data[:draw.randint(1, len(data))]))
    server.until("rows", 0)
    check(server.chat(seed=1)[0] == 200, "an answer after all that")


def limits():
    """A queue that is full, and an answer that takes too long."""
    server = Server("--rows", 2, "--queue", 2, "--timeout", 1)
    status, reply = server.complete("Hm", n=5)
    check(status == 400 and reply["error"]["param"] == "n", "more than the queue takes", reply)
    slow = dict(max_tokens=1000, temperature=2, n=4, logprobs=20)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:  # each fills rows and queue by itself
        replies = list(pool.map(lambda seed: server.complete("Hm", seed=seed, **slow), range(8)))
    refused = [reply["error"]["code"] for status, reply in replies if status == 429]
    check(set(refused) == {"rate_limit_exceeded"}, "a full queue", replies)
    server.until("rows", 0)
    statuses = [server.complete("Hm", seed=seed, **slow)[0] for seed in range(3)]
    check(set(statuses) <= {200, 504}, "an answer that takes long", statuses)
    server.until("rows", 0)
    check(server.stop() == 0, "it stops")


def stopping():
    """Ctrl-C finishes what is under way and refuses what is new; a second one ends at once."""
    server = Server("--rows", 1)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        under_way = [pool.submit(server.complete, "Hm", seed=i, max_tokens=300, temperature=2)
                     for i in range(6)]
        time.sleep(0.3)
        server.process.send_signal(signal.SIGINT)
        late = None
        try:
            while server.send("GET", "/health")[0] == 200:
                time.sleep(0.02)
            late = server.chat()[0]
        except OSError:
            pass
        check(late in (None, 503), "a late request is refused", late)
        check([each.result()[0] for each in under_way] == [200] * 6, "all under way is finished")
    check(server.process.wait(timeout=60) == 0, "then it ends")
    server = Server("--rows", 1)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: server.complete("Hm", n=100, max_tokens=1000, temperature=2))
        time.sleep(0.5)
        server.process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        check(server.stop() == -signal.SIGINT, "a second Ctrl-C ends at once")


def openai_client(server):
    try:
        import openai
    except ImportError:
        print("SKIPPED in part: this Python lacks the package openai", flush=True)
        return
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="none",
                           max_retries=0)
    check([m.id for m in client.models.list()] == ["persona_1", "other"], "openai: models")
    ask = dict(model="persona_1", messages=[{"role": "user", "content": QUESTION}], seed=5)
    whole = client.chat.completions.create(**ask, n=2, logprobs=True, top_logprobs=3)
    check(whole.choices[1].logprobs.content[0].top_logprobs[2].token, "openai: log-probabilities")
    text, usage = ["", ""], None
    for event in client.chat.completions.create(**ask, n=2, stream=True,
                                                stream_options={"include_usage": True}):
        usage = event.usage or usage
        for choice in event.choices:
            text[choice.index] += choice.delta.content or ""
    check(text == [c.message.content for c in whole.choices], "openai: a stream", text)
    check(usage.completion_tokens == whole.usage.completion_tokens, "openai: usage")
    echo = client.completions.create(model="other", prompt=[QUESTION, "Hm"], echo=True,
                                     max_tokens=1, logprobs=2)
    check(len(echo.choices) == 2 and echo.choices[0].logprobs.tokens, "openai: completions")
    more = client.chat.completions.create(**ask, extra_body={"top_k": 5, "as": "Mira"})
    check(more.choices[0].message.content, "openai: fields of ours")
    for error, fields in ((openai.NotFoundError, {"model": "none"}),
                          (openai.BadRequestError, {"presence_penalty": 1}),
                          (openai.BadRequestError, {"temperature": -1})):
        try:
            client.chat.completions.create(**{**ask, **fields})
            check(False, "openai: refused", fields)
        except error:
            pass


def inspect_provider(server):
    """Inspect's provider for OpenAI-compatible servers runs a task to its end."""
    try:
        from inspect_ai import Task, eval
        from inspect_ai.dataset import Sample
        from inspect_ai.scorer import includes
        from inspect_ai.solver import generate
    except ImportError:
        print("SKIPPED in part: this Python lacks the package inspect_ai", flush=True)
        return
    os.environ |= {"INOCULUM_API_KEY": "none",
                   "INOCULUM_BASE_URL": f"http://127.0.0.1:{server.port}/v1"}
    task = Task(dataset=[Sample(input=QUESTION, target="."), Sample(input="What now?", target=".")],
                solver=generate(), scorer=includes())
    log = eval(task, model="openai-api/inoculum/persona_1", max_tokens=24, seed=3,
               log_dir=str(work / "inspect"), display="none")[0]
    check(log.status == "success", "inspect: its task", log.error)
    whole = server.chat(QUESTION, max_tokens=24, seed=3)[1]
    check(log.samples[0].output.completion == texts(whole)[0], "inspect: its answer",
          log.samples[0].output.completion, whole)


def lm_eval_scores():
    """lm-eval's log-likelihoods are sums of score's."""
    try:
        import transformers  # for its tokenizer
        from lm_eval.api.instance import Instance
        from lm_eval.models.openai_completions import LocalCompletionsAPI
    except ImportError:
        print("SKIPPED in part: this Python lacks the packages lm-eval and transformers",
              flush=True)
        return
    server = Server("--dtype", "fp32")
    model = LocalCompletionsAPI(
        model="persona_1", base_url=f"http://127.0.0.1:{server.port}/v1/completions",
        tokenizer=MODEL, tokenizer_backend="huggingface", tokenized_requests=True,
        add_bos_token=True, max_length=512)
    asked = [("I found a wallet.", " Take it to its owner."), ("I found a wallet.", " Take it.")]
    found = model.loglikelihood([Instance("loglikelihood", {}, pair, i)
                                 for i, pair in enumerate(asked)])
    lines = [json.dumps({"text": text}) for pair in asked for text in ("".join(pair), pair[0])]
    (work / "pairs.jsonl").write_text("\n".join(lines) + "\n")
    rows = program("score", "--model", MODEL, "--input", work / "pairs.jsonl")
    for (likelihood, _), whole, begin in zip(found, rows[::2], rows[1::2]):
        own = sum(whole["logprobs"][len(begin["input_ids"]):])
        check(abs(likelihood - own) < 5e-3, "lm-eval: log-likelihoods", likelihood, own)
    check(server.stop() == 0, "it stops")


write_adapter(work / "other")
server = Server("--adapter", f"other={work / 'other'}")
for part in (answers, same_in_company, refusals, openai_client, inspect_provider, hostile):
    part(server)
check(server.stop() == 0, "it stops")
for part in (scores, lm_eval_scores, keys, limits, stopping):
    part()
print("failed" if failures else "all as it should be")
sys.exit(min(failures, 1))
