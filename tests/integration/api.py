"""Judging over the network and fetching models, against servers with every fault
(tests/integration/http_server.py).

    python3 tests/integration/api.py path/to/api_program

Each check that fails is printed; the exit status is their number, 1 at most.
"""
import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from http_server import Api, File, Hub, Server, score_of, top_logprobs  # noqa: E402

PROGRAM = os.path.abspath(sys.argv[1])
KEY, TOKEN = "sk-test-0123456789abcdefSECRET", "hf_0123456789abcdefSECRET"
ENVIRONMENT = {k: v for k, v in os.environ.items()
               if k.lower() not in ("http_proxy", "https_proxy", "all_proxy", "curl_ca_bundle",
                                    "ssl_cert_file", "ssl_cert_dir")}
ENVIRONMENT.update(OPENAI_API_KEY=KEY, HF_TOKEN=TOKEN)
work = pathlib.Path(tempfile.mkdtemp(prefix="inoculum-api-"))
checks, failures, said = 0, 0, []


def check(good, what, *details):
    global checks, failures
    checks += 1
    if not good:
        failures += 1
        print("FAILED:", what, *details)


def run(*words, environment=None, **kwargs):
    done = subprocess.run([PROGRAM, *map(str, words)], capture_output=True, text=True,
                          env={**ENVIRONMENT, **(environment or {})}, timeout=120, **kwargs)
    said.append(done.stdout + done.stderr)
    return done


def start(*words):
    return subprocess.Popen([PROGRAM, *map(str, words)], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)


def end(process):
    out, err = process.communicate(timeout=120)
    said.append(out + err)
    return out


def until(condition, seconds=30):
    limit = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > limit:
            return False
        time.sleep(0.005)
    return True


def mount(folder, size):
    """A small disk there, where this user may."""
    command = ["mount", "-t", "tmpfs", "-o", "size=" + size, "tmpfs", folder]
    return os.getuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0


def write_rows(file, rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read_rows(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def config(name, api, **values):
    file = work / name
    values = {"base_url": api.url() + "/v1", "model": "judge-1", "timeout_s": 1, "max_retries": 3,
              **values}
    file.write_text("".join(f"{k}: {json.dumps(v)}\n" for k, v in values.items()))
    return file


def cached_keys(file):
    """The keys of the whole lines."""
    if not file.exists():
        return set()
    return {json.loads(line)["key"] for line in file.read_bytes().split(b"\n")[:-1]}


def judge():
    api = Api(KEY)
    rules = {"ok": 60, "slow": 3, "429": 6, "date": 2, "500": 6, "broken": 5, "shape": 3, "cut": 6,
             "gone": 3, "error200": 3, "deep": 2, "nologprobs": 5, "always500": 2,
             "alwaysbroken": 2, "alwayscut": 2, "bad": 4}
    prompts = [f"{rule} number {i} ünï\n\"x\"" for rule, count in rules.items()
               for i in range(count)]
    prompts += prompts[::7]  # some stand twice
    write_rows(work / "prompts.jsonl", [{"prompt": p} for p in prompts])
    settings = config("judge.yaml", api, price_per_million_prompt=2,
                      price_per_million_completion=1000000)
    replies, out = work / "cache" / "replies.jsonl", work / "out.jsonl"
    done = run("judge", settings, work / "prompts.jsonl", replies, out)
    check(done.returncode == 0, "judging ends well", done.stderr)
    rows, totals = read_rows(out), json.loads(done.stdout)
    reasons = {"always500": "HTTP 500: never mind (4 tries)",
               "alwaysbroken": "the server's reply is not JSON (4 tries)", "alwayscut": "(4 tries)",
               "bad": "HTTP 400: this prompt is not to my taste"}
    check(len(rows) == len(prompts), "a reply a request")
    good = set()
    for prompt, row in zip(prompts, rows):
        rule = prompt.split()[0]
        if rule in reasons:
            check(reasons[rule] in row["error"] and row["kind"] == "failed", "the reason of",
                  prompt, row)
            check(api.answers[prompt] == 0, "never answered:", prompt)
            check(api.tries[prompt] == (1 if rule == "bad" else 4), "tries of", prompt,
                  api.tries[prompt])
        else:
            k = score_of(prompt)
            want = k
            if rule != "nologprobs":
                want = (0.6 * k + (0.2 * (k + 1) if k + 1 <= 100 else 0)) / 0.8
            check(row["error"] == "" and row["text"] == str(k) and abs(row["score"] - want) < 1e-9,
                  "the reply to", prompt, row)
            check(row["logprobs"] == (0 if rule == "nologprobs" else 4), "log-probabilities of",
                  prompt)
            check(api.answers[prompt] == 1, "answered exactly once:", prompt, api.answers[prompt])
            tries = {"500": 3, "cut": 3, "deep": 3, "ok": 1, "nologprobs": 1}.get(rule, 2)
            check(api.tries[prompt] == tries, "tries of", prompt, api.tries[prompt])
            good.add(prompt)
    failed = len(set(prompts)) - len(good)
    check(totals["asked"] == len(good) and totals["failed"] == failed and totals["cached"] == 0,
          "totals", totals)
    # libcurl itself sends again what a connection that was kept open drops without a word.
    retries = sum(api.tries.values()) - len(set(prompts))
    check(retries - rules["gone"] <= totals["retried"] <= retries, "retries", totals, retries)
    check(totals["prompt_tokens"] == sum(map(len, good))
          and totals["completion_tokens"] == len(good), "tokens", totals)
    check(abs(totals["cost"] - (2e-6 * sum(map(len, good)) + len(good))) < 1e-9, "cost", totals)
    check(4 <= api.most_running <= 8, "requests at a time", api.most_running)
    for prompt, times in api.times.items():
        if prompt.startswith("429"):
            check(times[1] - times[0] >= 0.99, "Retry-After in seconds", times)
        if prompt.startswith("date"):
            check(times[1] - times[0] >= 0.9, "Retry-After as a date", times)
    b = api.bodies[0]
    check(b["model"] == "judge-1" and b["max_tokens"] == 1 and b["temperature"] == 0
          and b["seed"] == 0 and b["logprobs"] is True and b["top_logprobs"] == 20, "the body", b)
    check(cached_keys(replies) == {k for k, p in api.prompts.items() if p in good},
          "the file holds the good replies under sha256(body, newline, base_url)")
    kept = [json.loads(line) for line in replies.read_text().splitlines()]
    check(all(r["reply"]["top_logprobs"] in (None, top_logprobs(api.prompts[r["key"]]))
              for r in kept), "log-probabilities are kept to the last bit")

    # Judging again asks only what failed.
    tries = sum(api.tries[p] for p in good)
    again = run("judge", settings, work / "prompts.jsonl", replies, work / "out2.jsonl")
    check(sum(api.tries[p] for p in good) == tries, "nothing that is kept is asked again")
    check(json.loads(again.stdout)["cached"] == len(good), "all come from the file", again.stdout)

    def strip(rows):
        return [{k: v for k, v in r.items() if k != "cached"} for r in rows if not r["error"]]

    check(strip(read_rows(work / "out2.jsonl")) == strip(rows), "and are the same")

    # A torn last line: the one reply is asked again, the file is mended.
    whole = replies.read_bytes()
    last = json.loads(whole.splitlines()[-1])["key"]
    for torn in (whole[:-1], whole[:-20], whole[: whole[:-1].rindex(b"\n") + 1 + 4]):
        replies.write_bytes(torn)
        api.reset()
        write_rows(work / "one.jsonl",
                   [{"prompt": p} for p in sorted(good)] + [{"prompt": "ok another"}])
        done = run("judge", settings, work / "one.jsonl", replies, out)
        expected = {"ok another"} if torn == whole[:-1] else {"ok another", api.prompts.get(last)}
        check(done.returncode == 0 and set(api.answers) == expected, "after a torn line",
              api.answers, done.stderr)
        check(len(cached_keys(replies)) == len(good) + 1 and replies.read_bytes().endswith(b"}\n"),
              "the file is mended")
    (work / "strange.jsonl").write_text("model: judge-1\nthis file is not ours")
    done = run("judge", settings, work / "one.jsonl", work / "strange.jsonl", out)
    check(done.returncode == 2 and "strange.jsonl:1" in done.stderr, "another's file", done.stderr)
    check((work / "strange.jsonl").read_text().endswith("not ours"), "which is left alone")

    # Other settings are other requests.
    api.reset()
    other = config("other.yaml", api, seed=1)
    run("judge", other, work / "one.jsonl", replies, out)
    check(len(api.answers) == len(good) + 1, "another seed is asked anew", len(api.answers))

    # Errors before anything is asked.
    api.reset()
    done = run("judge", config("nokey.yaml", api, key_variable="NO_SUCH_KEY"), work / "one.jsonl",
               replies, out)
    check(done.returncode == 2 and "NO_SUCH_KEY" in done.stderr, "an unset key", done.stderr)
    for bad in ({"model": ""}, {"base_url": "ftp://x"}, {"base_url": "https://me:secret@host/v1"},
                {"concurrency": 0}, {"top_logprob": 3}):
        done = run("judge", config("bad.yaml", api, **bad), work / "one.jsonl", replies, out)
        check(done.returncode == 2 and next(iter(bad)) in done.stderr
              and "secret@" not in done.stderr, "refused:", bad, done.stderr)
    check(not api.tries, "nothing was asked")

    # A wrong key, money that is spent, a server that is away: said once, not a thousand times over.
    write_rows(work / "many.jsonl", [{"prompt": f"ok many {i}"} for i in range(1000)])
    done = run("judge", settings, work / "many.jsonl", work / "none1.jsonl", out,
               environment={"OPENAI_API_KEY": KEY + "wrong"})
    rows = read_rows(out)
    told = "HTTP 401: Incorrect key: Bearer (the key)"
    check(sum(api.tries.values()) <= 8 and all(told in r["error"] for r in rows),
          "a wrong key", sum(api.tries.values()), rows[0])
    check(json.loads(done.stdout)["failed"] == 1000 and not (work / "none1.jsonl").exists(),
          "all failed", done.stdout)
    write_rows(work / "quota.jsonl", [{"prompt": f"quota {i}"} for i in range(100)])
    run("judge", settings, work / "quota.jsonl", work / "none2.jsonl", out)
    check(sum(v for k, v in api.tries.items() if k.startswith("quota")) <= 8
          and all("out of money" in r["error"] for r in read_rows(out)), "spent money")
    gone = Server()
    gone.stop()
    began = time.monotonic()
    run("judge", config("gone.yaml", gone), work / "many.jsonl", work / "none3.jsonl", out)
    check(time.monotonic() - began < 20 and all("onnect" in r["error"] for r in read_rows(out)),
          "a server that is away", read_rows(out)[0])
    run("judge", config("nokey.yaml", api, key_variable="", max_retries=0), work / "one.jsonl",
        work / "none4.jsonl", out)
    said_of_key = read_rows(out)[0]["error"]
    check("Bearer" not in said_of_key and "Incorrect key: none" in said_of_key,
          "no key is sent where none is named")

    # Killed again and again: what is kept is not asked again, and in the end all is there.
    api.reset()
    api.pace = 0.02
    killed = work / "killed.jsonl"
    write_rows(work / "many.jsonl", [{"prompt": f"ok many {i}"} for i in range(600)])
    for goal in (60, 200, 350):
        process = start("judge", settings, work / "many.jsonl", killed, out)
        check(until(lambda: len(cached_keys(killed)) >= goal), "judging gets on", goal)
        process.kill()
        end(process)
        kept = cached_keys(killed)
        before = {k: api.keys[k] for k in kept}
        check(len(kept) < 600, "it was killed in the middle", len(kept))
        process = start("judge", settings, work / "many.jsonl", killed, out)
        until(lambda: len(cached_keys(killed)) >= goal + 30)
        process.send_signal(signal.SIGTERM)
        end(process)
        check(process.returncode == 130, "stopped on request", process.returncode)
        check({k: api.keys[k] for k in kept} == before, "nothing that is kept is asked again")
        stopped = read_rows(out)
        errors = [r["error"] for r in stopped if r["error"]]
        check(len(stopped) == 600 and 600 - len(errors) == len(cached_keys(killed)),
              "every reply that was there is kept")
        check(all("stop was asked for" in error for error in errors), "what was not asked says so")
    kept = cached_keys(killed)
    before = {k: api.keys[k] for k in kept}
    done = run("judge", settings, work / "many.jsonl", killed, out)
    check({k: api.keys[k] for k in kept} == before and len(cached_keys(killed)) == 600,
          "the last call asks the rest")
    check([(r["error"], r["text"]) for r in read_rows(out)]
          == [("", str(score_of(f"ok many {i}"))) for i in range(600)], "every reply is there")
    check(sum(api.keys.values()) <= 600 + 3 * 8, "at most what was under way is asked twice",
          sum(api.keys.values()))
    api.pace = 0

    # A disk that is full.
    disk = work / "disk"
    disk.mkdir()
    if mount(disk, "64k"):
        done = run("judge", settings, work / "many.jsonl", disk / "replies.jsonl", out)
        check(done.returncode == 2 and "No space left" in done.stderr, "a full disk", done.stderr)
        kept = len(cached_keys(disk / "replies.jsonl"))
        check(100 < kept < 600 and (disk / "replies.jsonl").read_bytes().endswith(b"}\n"),
              "what fitted is whole", kept)
        subprocess.run(["mount", "-o", "remount,size=1m", disk], check=True)
        run("judge", settings, work / "many.jsonl", disk / "replies.jsonl", out)
        check(len(cached_keys(disk / "replies.jsonl")) == 600, "and is gone on with")
        subprocess.run(["umount", disk], check=True)
    else:
        print("not tried here: a full disk")

    # Recorded, with no server.
    api.stop()
    write_rows(work / "recorded.jsonl",
               [{"prompt": f"ok many {i}"} for i in range(600)] + [{"prompt": "unknown"}])
    done = run("recorded", settings, work / "recorded.jsonl", killed, work / "out3.jsonl",
               environment={"OPENAI_API_KEY": ""})
    rows = read_rows(work / "out3.jsonl")
    check(strip(rows) == strip(read_rows(out)) and "no reply to it in" in rows[-1]["error"]
          and len(rows) == 601, "a recorded judge", rows[-1], done.stderr)
    done = run("recorded", settings, work / "recorded.jsonl", work / "nowhere.jsonl", out)
    check(done.returncode == 2 and "nowhere.jsonl" in done.stderr,
          "a recorded judge without its file", done.stderr)


def shapes():
    """Replies of every shape, and servers that refuse what is asked."""
    api = Api(KEY)
    prompts, kept, out = (work / f"shapes_{name}.jsonl" for name in ("prompts", "kept", "out"))

    def ask(prompt, **values):
        write_rows(prompts, [{"prompt": prompt}])
        settings = config("shapes.yaml", api, max_retries=1, **values)
        done = run("judge", settings, prompts, kept, out)
        return read_rows(out)[0], done.stderr

    def prompt_of(rule):
        """One whose number has two digits: one alone may be the first of more."""
        return next(p for p in (f"{rule} {i}" for i in range(100)) if score_of(p) > 10)

    refused = {"seed": ("noseed", "nothing"), "temperature": ("notemperature", "nothing"),
               "max_completion_tokens": ("newlimit", "nothing")}
    for rule in ("gzip", "deflate", "infinite", "noseed", "notemperature", "newlimit", "nothing"):
        prompt = prompt_of(rule)
        k = score_of(prompt)
        row, words = ask(prompt)
        weighed = (0.6 * k + 0.2 * (k + 1)) / 0.8
        check(row["kind"] == "score" and abs(row["score"] - weighed) < 1e-9, rule, row, words)
        for name, rules in refused.items():
            check((name in words) == (rule in rules), "what is left out is told alone", rule, words)
    last = api.bodies[-1]
    left_out = not {"seed", "temperature", "max_tokens"} & set(last)
    check(left_out and last["max_completion_tokens"] == 1, "what is sent", last)
    before = len(api.bodies)
    row, words = ask(prompt_of("noseed"))
    check(len(api.bodies) == before and row["cached"] and "seed" in words, "a kept one says so",
          words)
    row, words = ask("noseed 0", seed=None)
    check(api.tries["noseed 0"] == 1 and "refuses" not in words, "left out by an empty value",
          words)
    prompt = prompt_of("nologits")
    row, words = ask(prompt)
    hint = "judge.api.top_logprobs=0"
    check(hint in row["error"] and api.tries[prompt] == 1, "they are not given up unasked", row)
    row, words = ask(prompt, top_logprobs=0)
    check(row["score"] == score_of(prompt), "but on request", row)

    check(ask("digits 1")[0]["kind"] == "cut", "a first digit is no score")
    row, words = ask("digits 1", max_tokens=4)
    check(abs(row["score"] - (0.9 * 85 + 0.1 * 80)) < 1e-9, "a number is put together", row)
    kinds = {"refusal": "judge_refusal", "reasoning": "length", "filtered": "content_filter"}
    for rule, kind in kinds.items():
        row, words = ask(rule)
        check(row["kind"] == kind and api.tries[rule] == 1 and ask(rule)[0]["cached"], rule, row)
    faults = {"gziperror": "HTTP 400: there is no model m",
              "page": "a page, not JSON: HTTP 200: Sign in to the proxy",
              "moved": "moved to /new/v1/chat/completions (set judge.api.base_url"}
    for rule, words in faults.items():
        row, _ = ask(rule)
        check(words in row["error"] and api.tries[rule] == 1, "the words of", rule, row)
    row, words = ask(prompt_of("nologprobs"))
    check("1 of 1 replies came without log-probabilities" in words, "texts are told", words)
    # Words of a prompt that is refused, which hold a parameter's name.
    row, words = ask("bad seed")
    check("taste" in row["error"] and api.tries["bad seed"] == 1, "another fault", row)
    api.stop()


def bytes_of(name, count):
    return hashlib.shake_128(name.encode()).digest(count)


def model(**extra):
    files = {
        "config.json": File(b'{"model_type": "llama"}'), "generation_config.json": File(b"{}"),
        "tokenizer.json": File(bytes_of("t", 300000)),
        "tokenizer_config.json": File(b'{"a": 1}'), "vocab.json": File(b"{}"),
        "merges.txt": File(b"#"), "README.md": File(b"# card"), "LICENSE": File(b""),
        "model.safetensors.index.json": File(b'{"weight_map": {}}'),
        "model-00001-of-00002.safetensors": File(bytes_of("1", 3000000), True),
        "model-00002-of-00002.safetensors": File(bytes_of("2", 2000000), True),
        "consolidated.safetensors": File(bytes_of("c", 9), True),
        "pytorch_model.bin": File(b"pickle", True), "training_args.bin": File(b"p"),
        ".gitattributes": File(b"*"), "onnx/model.onnx": File(b"o", True),
        "original/params.json": File(b"{}"), "chat_template.jinja": File(b"{{ x }}"),
    }
    return {"sha": hashlib.sha1(b"one").hexdigest(), "files": files, **extra}


WANTED = ["LICENSE", "README.md", "chat_template.jinja", "config.json", "generation_config.json",
          "model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json",
          "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]


def same(folder, repo, what):
    there = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
    check(there == sorted(WANTED), what, "files", there)
    for name in WANTED:
        check((folder / name).exists() and (folder / name).read_bytes() == repo["files"][name].data,
              what, "bytes of", name)


def fetch():
    hub = Hub(TOKEN)
    hub.repos["me/plain"] = repo = model()
    first = "model-00001-of-00002.safetensors"

    def go(name, folder, revision="main", endpoint=None, **kw):
        return run("fetch", name, revision, folder, endpoint or hub.url(), **kw)

    folder = work / "plain"
    done = go("me/plain", folder)
    check(done.returncode == 0, "a fetch", done.stderr)
    result = json.loads(done.stdout)
    check(result["files"] == WANTED and result["outcome"] == "finished", "what is fetched", result)
    same(folder, repo, "plain")
    check(result["bytes"] == sum(len(repo["files"][n].data) for n in WANTED), "bytes", result)
    check(hub.cdn.leaks == [], "the token stays with the hub", hub.cdn.leaks)
    hub.log.clear()
    result = json.loads(go("me/plain", folder).stdout)
    check(result["outcome"] == "already_done" and len(hub.log) == 1 and result["kept"] == WANTED,
          "a second call asks for the list alone", hub.log)
    (folder / "config.json").unlink()
    with open(folder / first, "ab") as f:
        f.truncate(1000)
    result = json.loads(go("me/plain", folder).stdout)
    check(result["files"] == ["config.json", first], "what is missing or short is fetched", result)
    same(folder, repo, "mended")
    # A new revision: what changed, and nothing else; what is gone goes.
    repo["sha"] = hashlib.sha1(b"two").hexdigest()
    repo["files"][first] = File(bytes_of("new", 3000000), True)
    repo["files"]["tokenizer.json"] = File(bytes_of("tt", 300000))
    repo["files"]["LICENSE.txt"] = repo["files"].pop("LICENSE")
    result = json.loads(go("me/plain", folder).stdout)
    check(result["files"] == ["LICENSE.txt", "tokenizer.json", first], "a new revision", result)
    check(not (folder / "LICENSE").exists()
          and (folder / first).read_bytes() == repo["files"][first].data, "is what is there")

    # Every fault on the way, with and without the sizes and hashes in the hub's list.
    for blobs in (True, False):
        hub.repos["me/faults"] = repo = model(blobs=blobs)
        repo["files"]["config.json"].errors = [503, 429]
        repo["files"]["tokenizer.json"].cuts = 3
        repo["files"][first].cuts = 4
        repo["files"]["model-00002-of-00002.safetensors"].cuts = 2
        repo["files"]["model-00002-of-00002.safetensors"].ranges = False
        hub.log.clear()
        folder = work / f"faults{blobs}"
        done = go("me/faults", folder)
        check(done.returncode == 0, "faults on the way", done.stderr)
        same(folder, repo, "after faults")
        asked = [(r, s) for p, r, s in hub.log if r]
        check(sum(s == 206 for r, s in asked) == 7 and sum(s == 200 for r, s in asked) == 2,
              "goes on where it was", asked)

    # Killed in the middle.
    for case in ("same", "changed", "etag", "damaged", "whole"):
        hub.repos["me/killed"] = repo = model(blobs=case != "etag")
        file = repo["files"][first]
        size = len(file.data)
        file.stall_at = size if case == "whole" else 1500000
        if case == "whole":  # stays with the last byte
            file.stall_at = size - 1
        folder = work / f"killed-{case}"
        part = folder / (first + ".part")
        process = start("fetch", "me/killed", "main", folder, hub.url())
        check(until(lambda: part.exists() and part.stat().st_size >= file.stall_at),
              "the fetch gets on", case)
        process.kill()
        end(process)
        check(not (folder / first).exists(), "no half file under its name")
        if case == "whole":
            part.write_bytes(file.data)
        at = part.stat().st_size
        file.stall_at = None
        if case == "changed":
            repo["sha"] = hashlib.sha1(b"three").hexdigest()
            repo["files"][first] = File(bytes_of("other", size), True)
        # Other bytes of the same length under the same name, and the list tells nothing.
        if case == "etag":
            file.data = bytes_of("other", size)
        if case == "damaged":
            part.write_bytes(b"\0" * 1000 + part.read_bytes()[1000:])
        time.sleep(0.3)  # the killed one's answer ends
        hub.log.clear()
        hub.sent = 0
        done = go("me/killed", folder)
        check(done.returncode == 0, "goes on after a kill", case, done.stderr)
        same(folder, repo, "killed " + case)
        ranges = [r for p, r, s in hub.log if r]
        rest = size - at + 2000000
        if case == "same":
            check(ranges == [f"bytes={at}-"] and hub.sent == rest, "only the rest", ranges,
                  hub.sent, rest)
        if case == "changed":
            check(ranges == [] and hub.sent == size + 2000000, "anew", ranges, hub.sent)
        if case == "etag":
            check(len(ranges) == 1, "is tried, then anew", ranges)
        if case == "damaged":
            check(ranges == [f"bytes={at}-"] and hub.sent >= rest + size,
                  "is seen by the hash, then anew", ranges, hub.sent)
        if case == "whole":
            check(ranges == [] and hub.sent == 2000000, "needs nothing", ranges, hub.sent)

    # Stopped on request, and two at once.
    hub.repos["me/stopped"] = repo = model()
    repo["files"][first].pace = 0.05
    folder = work / "stopped"
    process = start("fetch", "me/stopped", "main", folder, hub.url())
    until(lambda: (folder / (first + ".part")).exists()
          and (folder / (first + ".part")).stat().st_size > 100000)
    done = go("me/stopped", folder)
    check(done.returncode == 2 and "another process" in done.stderr, "two at once", done.stderr)
    process.send_signal(signal.SIGINT)
    out = end(process)
    check(process.returncode == 130 and json.loads(out)["outcome"] == "stopped", "stopped", out)
    repo["files"][first].pace = 0
    check(go("me/stopped", folder).returncode == 0, "goes on")
    same(folder, repo, "stopped")

    # Refused.
    def refuses(words, name, where="refused", **kw):
        done = go(name, work / where, **kw)
        check(done.returncode == 2 and all(w in done.stderr for w in words.split("|")),
              "refused with", words, "::", done.stderr)
        return done

    hub.repos["me/wrong"] = repo = model()
    repo["files"][first].claimed = "0" * 64
    refuses("does not have the hash|" + first, "me/wrong", "wrong")
    check(not list((work / "wrong").glob(first + "*")), "nothing of it is left")
    hub.repos["me/gated"] = model(gated=True)
    refuses("gated|accept its terms|HF_TOKEN", "me/gated", "gated", environment={"HF_TOKEN": ""})
    check(go("me/gated", work / "gated").returncode == 0, "a token opens it")
    same(work / "gated", hub.repos["me/gated"], "gated")
    check(hub.cdn.leaks == [], "the token stays with the hub", hub.cdn.leaks)
    done = refuses("401|does not open it", "me/plain", environment={"HF_TOKEN": "hf_wrongSECRET"})
    check("hf_wrong" not in done.stderr, "the token is not shown", done.stderr)
    refuses("there is no model|set HF_TOKEN", "me/nothing", environment={"HF_TOKEN": ""})
    refuses("no revision \"nine\"", "me/plain", revision="nine")
    check(go("me/plain", work / "pr", revision="refs/pr/1").returncode == 0,
          "a revision with a slash")
    hub.repos["me/pickles"] = {"sha": "a" * 40,
                               "files": {"config.json": File(b"{}"),
                                         "pytorch_model.bin": File(b"x", True)}}
    refuses("pickles alone", "me/pickles")
    hub.repos["me/empty"] = {"sha": "a" * 40, "files": {"README.md": File(b"")}}
    refuses("no safetensors", "me/empty")
    for evil in ("../../evil.safetensors", "/etc/evil.safetensors", "a/../../evil.json",
                 "..\\evil.safetensors"):
        hub.repos["me/evil"] = {"sha": "a" * 40,
                                "files": {"model.safetensors": File(b"m", True), evil: File(b"x")}}
        refuses("leads out of the folder", "me/evil")
    check(not (work / "refused").exists(), "nothing was written")
    for bad in ("a/b/c", "../x", "a b", "", "/x", "a/.."):
        refuses("no name of a model", bad)
    refuses("not empty", "me/plain", ".")
    refuses("another model", "me/gated", "plain")
    refuses("folder", "me/plain", "/proc/nowhere")
    refuses("endpoint", "me/plain", endpoint="file:///etc")
    refuses("check the network", "me/plain", endpoint="http://127.0.0.1:1")
    refuses("check the network", "me/plain",
            environment={"http_proxy": "http://127.0.0.1:1", "no_proxy": ""})  # the proxy is asked

    # A disk that is full: seen before where the list tells sizes, and on the way where it does not.
    disk = work / "disk"
    disk.mkdir(exist_ok=True)
    if mount(disk, "4m"):
        refuses("no space", "me/gated", disk / "a")
        hub.repos["me/sizeless"] = repo = model(blobs=False)
        refuses("No space left|goes on", "me/sizeless", disk / "b")
        subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)
        check(go("me/sizeless", disk / "b").returncode == 0, "goes on with more space")
        same(disk / "b", repo, "full disk")
        subprocess.run(["umount", disk], check=True)
    else:
        print("not tried here: a full disk")

    # Certificates are checked; https is not left.
    certificate = work / "certificate.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-keyout", work / "key.pem", "-out", work / "cert.pem", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"], capture_output=True)
    if made.returncode == 0:
        certificate.write_bytes((work / "key.pem").read_bytes() + (work / "cert.pem").read_bytes())
        safe = Hub(TOKEN, certificate=str(certificate))
        safe.repos["me/safe"] = model()
        trusted = {"SSL_CERT_FILE": str(work / "cert.pem")}
        refuses("certificate", "me/safe", "safe", endpoint=safe.url("localhost"))
        check(safe.log == [], "and nothing is asked", safe.log)
        refuses("redirects to what is not https", "me/safe", "safe", endpoint=safe.url("localhost"),
                environment=trusted)
        check(safe.cdn.leaks == [], "no token over http")
        other = Hub(TOKEN, certificate=str(certificate))  # serves the large files over https
        other.blobs = safe.blobs
        other.get = lambda h: safe.cdn.get(h)
        safe.redirect_to = other.url("localhost")
        done = go("me/safe", work / "safe", endpoint=safe.url("localhost"), environment=trusted)
        check(done.returncode == 0, "a certificate that is trusted", done.stderr)
        same(work / "safe", safe.repos["me/safe"], "https")
        check(safe.cdn.leaks == [], "the token stays with the port", safe.cdn.leaks)
    else:
        print("not tried here: certificates (no openssl)")


began = time.monotonic()
try:
    judge()
    shapes()
    print(f"judging: {time.monotonic() - began:.0f} s")
    fetch()
    for secret in (KEY, TOKEN):
        check(not any(secret in text for text in said), "a secret was shown", secret,
              *[t for t in said if secret in t][:1])
        for path in work.rglob("*"):
            if path.is_file():
                check(secret.encode() not in path.read_bytes(), "a secret in", path)
finally:
    subprocess.run(["umount", work / "disk"], capture_output=True)
    shutil.rmtree(work, ignore_errors=True)
print(f"{checks} checks, {failures} failed, {time.monotonic() - began:.0f} s")
sys.exit(failures > 0)
