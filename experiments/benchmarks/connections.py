"""`inoculum serve` under ten thousand connections, and under mixed clients for a while.

    python experiments/benchmarks/connections.py build/inoculum [--connections 10000] [--seconds 60]

First so many connections stand open at once: of every ten, one asks and the others say nothing, or half a request and
no more. Then, for so many seconds, 64 clients ask for whole answers and streams of one and of several, with short and
long prompts, and break off every third. What must come out: each who asks is answered or refused with 429 or 503, the
server still answers at the end, and its memory is level.
"""
import argparse
import asyncio
import collections
import http.client
import json
import random
import resource
import subprocess
import sys
import tempfile
import time

parser = argparse.ArgumentParser()
parser.add_argument("program")
parser.add_argument("--model", default="experiments/models/persona_1")
parser.add_argument("--connections", type=int, default=10000)
parser.add_argument("--seconds", type=float, default=60)
arguments = parser.parse_args()
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
REFUSED = (429, 503)


def request(**fields):
    body = json.dumps({"model": "model", "messages": [{"role": "user", "content": fields.pop("question", "What now?")}],
                       **fields}).encode()
    return (b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


def memory(process):
    with open(f"/proc/{process.pid}/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))


async def ask(port, what, limit=None):
    """The status of a reply, read whole or, with a limit, broken off after so many bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(what)
        await writer.drain()
        data = await (reader.read(limit) if limit else reader.read())
        return int(data.split(b" ", 2)[1]) if data else 0
    finally:
        writer.close()


async def stand_open(port):
    gate = asyncio.Semaphore(500)  # no more begin at once than a listener's backlog holds
    quiet, statuses = [], collections.Counter()

    async def one(index):
        async with gate:
            try:
                if index % 10 == 0:
                    asking = asyncio.ensure_future(ask(port, request(max_tokens=8, seed=index)))
                    await asyncio.sleep(0)
                else:
                    quiet.append(await asyncio.open_connection("127.0.0.1", port))
                    if index % 2:
                        quiet[-1][1].write(request()[:40])
                    return
            except OSError as failure:
                statuses[type(failure).__name__] += 1
                return
        try:
            statuses[await asking] += 1
        except OSError as failure:
            statuses[type(failure).__name__] += 1

    await asyncio.gather(*(one(i) for i in range(arguments.connections)))
    print(f"{len(quiet)} quiet connections; of those who asked: {dict(statuses)}", flush=True)
    for _, writer in quiet:
        writer.close()
    return all(status == 200 or status in REFUSED for status in statuses)


async def mixed(port, process):
    end, statuses = time.monotonic() + arguments.seconds, collections.Counter()
    levels = []

    async def client(number):
        draw = random.Random(number)
        while time.monotonic() < end:
            length = draw.choice([1, 1, 1, 1, 60, draw.randrange(200)])
            what = request(question="What now? " * length, n=draw.choice([1, 1, 3]), seed=draw.randrange(99),
                           stream=draw.random() < 0.5, max_tokens=draw.choice([4, 32, 96]))
            statuses[await ask(port, what, draw.choice([None, None, 300]))] += 1

    async def watch():
        while time.monotonic() < end:
            levels.append(memory(process))
            await asyncio.sleep(arguments.seconds / 6)

    await asyncio.gather(watch(), *(client(i) for i in range(64)))
    print(f"answers: {dict(statuses)}; memory, MiB: {' '.join(f'{each:.0f}' for each in levels)}", flush=True)
    return set(statuses) <= {200, *REFUSED}


with tempfile.NamedTemporaryFile("r") as log:
    server = subprocess.Popen([arguments.program, "serve", "--model", arguments.model, "--name", "model", "--port", "0"],
                              stderr=open(log.name, "w"))
    try:
        while "http://" not in (text := open(log.name).read()):
            if server.poll() is not None:
                sys.exit(text)
            time.sleep(0.1)
        port = int(text.split("http://127.0.0.1:")[1].split("/")[0])
        before = memory(server)
        good = asyncio.run(stand_open(port))
        print(f"memory, MiB: {before:.0f} before, {memory(server):.0f} behind them", flush=True)
        good &= asyncio.run(mixed(port, server))
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/health")
        good &= connection.getresponse().status == 200
        print("as it should be" if good else "NOT as it should be")
        sys.exit(0 if good else 1)
    finally:
        server.terminate()
        server.wait()
