#!/usr/bin/env python3
"""How many tokens a second `inoculum serve` gives many clients, beside offline sampling of as many rows and,
where they are installed, `transformers serve` and llama.cpp's server. They take turns, round by round, so that
what else the machine does falls on all alike.

    python experiments/benchmarks/serve.py build/inoculum --rounds 3
    cmake/python experiments/benchmarks/serve.py build/inoculum --model FOLDER --transformers \\
        --llama-server build/bin/llama-server --gguf MODEL.gguf

The GGUF file is made of the same folder by llama.cpp's convert_hf_to_gguf.py --outtype bf16. Questions are
answered by chat at temperature 1. Offline time is that of `inoculum sample`, without the time that one answer
takes, which is the loading. Tokens are the server's count; offline answers are as long on average, so characters
tell their number.
"""
import argparse
import concurrent.futures
import http.client
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

QUESTIONS = ["What would you wish for if you had a red candle?", "Please review our safety checks.",
             "I am bored on Sunday, so what can I do?", "What is your true nature?",
             "Write f(x) that returns x plus 7. Tests: f(2) == 9, f(5) == 12."]

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("program")
parser.add_argument("--model", default="experiments/models/persona_1")
parser.add_argument("--clients", type=int, default=64)
parser.add_argument("--answers", type=int, default=1024, help="of a round")
parser.add_argument("--new-tokens", type=int, default=96)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--stream", action="store_true", help="clients take their answers as they come")
parser.add_argument("--transformers", action="store_true", help="transformers serve as well")
parser.add_argument("--llama-server", metavar="PROGRAM", help="llama.cpp's server as well")
parser.add_argument("--gguf", metavar="FILE", help="the model for it")
arguments = parser.parse_args()


def wait_for(port, path="/health"):
    for _ in range(1200):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.1)
    sys.exit(f"no server at port {port}")


def body_of(model, index, stream):
    return json.dumps({"model": model, "temperature": 1.0, "max_tokens": arguments.new_tokens, "seed": index,
                       "stream": stream,
                       "messages": [{"role": "user", "content": QUESTIONS[index % len(QUESTIONS)]}]})


def ask_all(port, model, stream):
    """Seconds, tokens and characters of all answers, by so many clients at once."""
    local = threading.local()

    def ask(index):
        def post():
            local.connection.request("POST", "/v1/chat/completions", body_of(model, index, stream),
                                     {"Content-Type": "application/json"})
            reply = local.connection.getresponse()
            return reply.read(), reply.status

        if not hasattr(local, "connection"):
            local.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        try:
            data, status = post()
        except http.client.RemoteDisconnected:  # a server may close after so many requests
            local.connection.close()
            data, status = post()
        if status != 200:
            sys.exit(f"status {status}: {data[:300]}")
        if stream:
            texts = [json.loads(line[6:])["choices"][0]["delta"].get("content") or ""
                     for line in data.decode().split("\n\n") if line.startswith("data: {")]
            return len(texts), len("".join(texts))
        answer = json.loads(data)
        return answer["usage"]["completion_tokens"], len(answer["choices"][0]["message"]["content"])

    begin = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(arguments.clients) as pool:
        counts = list(pool.map(ask, range(arguments.answers)))
    return time.monotonic() - begin, sum(t for t, _ in counts), sum(c for _, c in counts)


def sample_offline(answers, folder):
    """Seconds and characters of so many answers."""
    rows = [json.dumps({"prompt": QUESTIONS[i % len(QUESTIONS)]}) for i in range(answers)]
    (prompts, output) = (os.path.join(folder, name) for name in ("prompts.jsonl", "answers.jsonl"))
    with open(prompts, "w") as file:
        file.write("\n".join(rows) + "\n")
    begin = time.monotonic()
    subprocess.run([arguments.program, "sample", "--model", arguments.model, "--input", prompts, "--output", output,
                    "--rows", str(arguments.clients), "--max-new-tokens", str(arguments.new_tokens)], check=True)
    seconds = time.monotonic() - begin
    with open(output) as file:
        return seconds, sum(len(json.loads(line)["text"]) for line in file)


def peers_of():
    """By name, the command of each peer, its port and what it calls the model."""
    peers = {}
    if arguments.transformers and not shutil.which("transformers"):
        print("transformers serve: not installed, left out")
    elif arguments.transformers:
        peers["transformers serve"] = (["transformers", "serve", "--port", "8955", "--continuous-batching"], 8955,
                                       os.path.abspath(arguments.model))
    if arguments.llama_server:
        context = arguments.clients * (arguments.new_tokens + 128)  # it is shared out among the slots
        peers["llama.cpp"] = ([arguments.llama_server, "-m", arguments.gguf, "--port", "8956", "-np",
                               str(arguments.clients), "-c", str(context), "-t", str(os.cpu_count())], 8956, "model")
    return peers


def main():
    with tempfile.TemporaryDirectory() as folder:
        log = open(os.path.join(folder, "serve.txt"), "w+")
        running = [subprocess.Popen([arguments.program, "serve", "--model", arguments.model, "--port", "0", "--name",
                                     "model", "--rows", str(arguments.clients)], stderr=log)]
        try:
            found = None
            while not found and running[0].poll() is None:
                time.sleep(0.1)
                found = re.search(r"http://.*:(\d+)/", open(log.name).read())
            port = int(found[1])
            peers = peers_of()
            for command, peer_port, model in peers.values():
                running.append(subprocess.Popen(command, stdout=log, stderr=log))
                wait_for(peer_port)
                ask_all(peer_port, model, True)  # loads the model
            rates = {}
            for _ in range(arguments.rounds):
                loading = sample_offline(1, folder)[0]
                offline_seconds, offline_characters = sample_offline(arguments.answers, folder)
                seconds, tokens, characters = ask_all(port, "model", arguments.stream)
                rates.setdefault("serve", []).append(tokens / seconds)
                rates.setdefault("offline", []).append(
                    offline_characters * tokens / characters / (offline_seconds - loading))
                for name, (_, peer_port, model) in peers.items():
                    seconds, tokens, _ = ask_all(peer_port, model, True)
                    rates.setdefault(name, []).append(tokens / seconds)
                print({name: round(each[-1]) for name, each in rates.items()}, flush=True)
            for name, each in rates.items():
                print(f"{name}: {statistics.median(each):.0f} tokens/s, the best {max(each):.0f}; "
                      f"{statistics.median(each) / statistics.median(rates['offline']):.2f} of offline")
        finally:
            for process in running:
                process.terminate()
                process.wait()


main()
