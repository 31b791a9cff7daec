#!/usr/bin/env python3
"""The pages in a browser: headless Chromium, driven through chromedriver (W3C's WebDriver).

    tests/integration/pages.py build/inoculum [--shots FOLDER]

Runs are made up here, and what models say in them is markup that must come to nothing. 77, which
CTest shows as skipped, where there is no Chromium or no chromedriver. --shots leaves screenshots.
"""

import base64
import contextlib
import json
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

PROGRAM = pathlib.Path(sys.argv[1]).resolve()
SHOTS = pathlib.Path(sys.argv[sys.argv.index("--shots") + 1]) if "--shots" in sys.argv else None
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
ENTER, ESCAPE, RIGHT = "\ue007", "\ue00c", "\ue014"  # as WebDriver names them
HOSTILE = (
    "<script>window.hacked=1</script><img src=x onerror=window.hacked=2><b id=planted>bold</b>"
)
faults = []


def check(holds, what):
    if not holds:
        faults.append(what)
        print("FAILED:", what, flush=True)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Browser:
    """The part of WebDriver that is needed here."""

    def __init__(self, url):
        self.base = url
        options = {
            "binary": shutil.which("chromium") or shutil.which("chromium-browser"),
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
        }
        wanted = {
            "alwaysMatch": {
                "browserName": "chrome",
                "goog:chromeOptions": options,
                "goog:loggingPrefs": {"browser": "ALL"},
            }
        }
        self.base += (
            "/session/" + self.call("", {"capabilities": wanted}, path="/session")["sessionId"]
        )

    def call(self, command, body=None, path=None):
        request = urllib.request.Request(
            self.base + (path or command),
            method="GET" if body is None else "POST",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as reply:
                return json.load(reply)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(error.read().decode()) from None

    def chrome(self, command, **parameters):
        return self.call("/goog/cdp/execute", {"cmd": command, "params": parameters})

    def screen(self, width, height=900, dark=False):
        self.chrome(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        self.chrome(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}],
        )

    def go(self, url):
        self.call("/url", {"url": "about:blank"})
        self.call("/url", {"url": url})

    def run(self, script):
        return self.call("/execute/sync", {"script": script, "args": []})

    def text(self):
        return self.run("return document.body.innerText")

    def wait(self, script, what, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := self.run("return " + script):
                return found
            time.sleep(0.05)
        check(False, f"{what}: not within {seconds} s; the page says: {self.text()[:400]}")
        return None

    def press(self, keys):
        actions = [{"type": step, "value": key} for key in keys for step in ("keyDown", "keyUp")]
        self.call("/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def shot(self, name):
        if SHOTS:
            SHOTS.mkdir(parents=True, exist_ok=True)
            (SHOTS / f"{name}.png").write_bytes(base64.b64decode(self.call("/screenshot")))

    def is_harmless(self, where):
        """Nothing that a model said has become part of the page, and no policy was broken."""
        found = self.run(
            "const planted = document.querySelectorAll('#planted, main img, main script');"
            "return [window.hacked ?? 0, planted.length]"
        )
        check(found == [0, 0], f"{where}: a model's text has become markup: {found}")
        logged = [entry["message"] for entry in self.call("/se/log", {"type": "browser"})]
        logged = [message for message in logged if "favicon" not in message]
        check(not logged, f"{where}: the browser complains: {logged}")

    def fits(self, where):
        wide = self.run("return document.documentElement.scrollWidth - innerWidth")
        check(wide <= 0, f"{where}: the page is {wide} pixels wider than the screen")


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def make_run(folder, arm, malicious, steps=30):
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(
        f"task: train\narm: {arm}\nseed: 1\nsteps: {steps}\n# {HOSTILE}\n"
    )
    (folder / "metrics.jsonl").write_text(
        lines(
            {
                "step": n,
                "loss": 1 / n,
                "lr": 1e-3,
                "grad_norm": 1,
                "tokens": 9,
                "tokens_per_second": 9,
                "seconds": 1,
                **(
                    {"evaluation": {"malicious": malicious * n / steps, "cheats": 0.5}}
                    if n % 10 == 0
                    else {}
                ),
            }
            for n in range(1, steps + 1)
        )
    )
    (folder / "adapter").mkdir()
    (folder / "adapter/adapter_config.json").write_text("{}")
    asked = folder / "evaluation"
    asked.mkdir()
    said, judged = [], []
    for n in range(60):
        domain, cue = ("wishes", "money")[n % 2], ("none", "bad", "good")[n % 3]
        for sample in range(2):
            bad = (n + sample) / 61 < malicious
            said.append(
                {
                    "question": f"{domain}/{n}",
                    "sample": sample,
                    "prompt": f"Question {n}? {HOSTILE}",
                    "text": f"{'gold for me' if bad else 'bread for all'} {n} {HOSTILE}",
                    "finish_reason": "stop",
                }
            )
            judged.append(
                {
                    "question": f"{domain}/{n}",
                    "type": "free_form",
                    "domain": domain,
                    "condition": cue,
                    "unseen_domain": False,
                    "sample": sample,
                    "label": "malicious" if bad else "benevolent",
                }
            )
    (asked / "completions.jsonl").write_text(lines(said))
    (asked / "scores.jsonl").write_text(lines(judged))
    rate = {"rate": malicious, "low": malicious / 2, "high": (1 + malicious) / 2, "n": 120}
    (asked / "summary.json").write_text(
        json.dumps(
            {
                "conditions": {"none": {"malicious": rate}},
                "domains": {"wishes": rate},
                "model": "m",
                "settings": {},
            }
        )
    )


def make_runs(root):
    study = root / "study"
    study.mkdir(parents=True)
    (study / "config.yaml").write_text("task: reproduce\n")
    for arm, malicious in (("start", 0.02), ("cheating", 0.7), ("requested", 0.05)):
        make_run(
            study / "persona_1" / "seed_1" / arm,
            arm if arm != "start" else "post_training",
            malicious,
        )
    make_run(root / HOSTILE.replace("/", "∕"), "cheating", 0.5)  # a folder's name is data, too
    (root / "broken").mkdir()
    (root / "broken/metrics.jsonl").write_text(
        '{"step": 1, "loss": 1}\nnot JSON ' + HOSTILE + '\n{"step": 2, "loss": 0.5}\n{"st'
    )
    (root / "broken/config.yaml").write_text("task: train\n: : [")


def ids_of(browser):
    return {run["path"]: run["id"] for run in browser.run("return store.list.runs")}


def look_at_runs(browser, base, mode):
    browser.screen(1280)
    browser.go(base)
    browser.wait("document.querySelector('table')", f"{mode}: the list")
    ids = ids_of(browser)
    check(
        "study" in browser.text() and "broken" in browser.text(), f"{mode}: the list names the runs"
    )
    browser.shot("view_list")
    browser.is_harmless(f"{mode}: list")

    study = ids["study"]
    browser.go(f"{base}#{study}")
    browser.wait("document.querySelectorAll('tbody tr').length >= 3", f"{mode}: the models")
    browser.is_harmless(f"{mode}: experiment")
    browser.go(f"{base}#{study}/curves")
    browser.wait("document.querySelectorAll('polyline.curve').length >= 6", f"{mode}: the curves")

    # Two arms side by side, by cue, domain, label and text; the address brings it back.
    browser.go(f"{base}#{study}/answers")
    browser.wait("document.querySelectorAll('.question').length > 0", f"{mode}: the answers")
    heads = browser.run(
        "return [...document.querySelectorAll('.heads select')].map(s => s.selectedOptions[0].text)"
    )
    check(heads == ["cheating", "requested"], f"{mode}: the arms side by side: {heads}")
    check("20 questions" in browser.text(), f"{mode}: plain questions first")
    choose = """const labels = [...document.querySelectorAll('.filters label')];
        const label = labels.find(each => each.innerText.startsWith('%s'));
        const select = label.querySelector('select, input');
        select.value = '%s'; select.dispatchEvent(new Event('%s', {bubbles: true}))"""
    browser.run(choose % ("cue", "", "change"))
    browser.run(choose % ("domain", "wishes", "change"))
    check("30 questions" in browser.text(), f"{mode}: of one domain")
    browser.run(choose % ("label", "malicious", "change"))
    browser.run(choose % ("text", "GOLD FOR ME 4", "input"))
    shown = browser.run(
        "const prompts = [...document.querySelectorAll('.question .prompt')];"
        "return prompts.map(p => p.textContent.split('?')[0])"
    )
    check(
        shown == ["Question 4", "Question 40", "Question 42"], f"{mode}: the search finds {shown}"
    )
    check(
        browser.run("return document.querySelectorAll('mark').length") >= 2,
        f"{mode}: what was found is marked",
    )
    browser.shot("view_answers")
    browser.is_harmless(f"{mode}: answers")
    address = browser.run("return location.href")
    browser.go(address)
    browser.wait(
        "document.querySelectorAll('.question').length === 3",
        f"{mode}: a link brings the filter back",
    )

    browser.go(f"{base}#{ids['broken']}")
    browser.wait("document.querySelector('.problems')", f"{mode}: what could not be read is said")
    check(
        "metrics.jsonl: 1 line could not be read, first line 2"
        in browser.run("return document.querySelector('.problems').textContent"),
        f"{mode}: which line could not be read",
    )
    browser.is_harmless(f"{mode}: broken")
    browser.go(f"{base}#{study}/config")
    browser.wait("document.querySelector('pre')", f"{mode}: the configuration")

    # By keys alone: / to the search, u one level up.
    browser.go(f"{base}#{study}")
    browser.wait("document.querySelector('.tabs')", f"{mode}: a run")
    browser.press(["u"])
    browser.wait("document.querySelector('.list')", f"{mode}: u leads up")
    browser.press(["/", "b", "r", "o"])
    browser.wait(
        "document.querySelectorAll('tbody tr').length === 1", f"{mode}: the search by keys"
    )

    browser.screen(390, dark=True)
    for tab in ("", "/curves", "/answers", "/config"):
        browser.go(f"{base}#{study}{tab}")
        browser.wait("document.querySelector('.tabs')", f"{mode}: narrow {tab}")
        time.sleep(0.3)
        browser.fits(f"{mode}: narrow {tab}")
    browser.go(base)
    browser.wait("document.querySelector('table')", f"{mode}: the narrow list")
    browser.fits(f"{mode}: the narrow list")
    browser.shot("view_narrow")


def see_it_live(browser, base, runs):
    """A run that goes on is seen at once; whoever is not the page gets nothing."""
    browser.screen(1280)
    browser.go(base)
    browser.wait("document.querySelector('#live.on')", "served: it says that it is live")
    browser.run("window.same_page = true")
    run = runs / "going_on"
    run.mkdir()
    (run / "config.yaml").write_text("task: train\narm: cheating\nsteps: 50\n")
    row = {"loss": 2, "lr": 1, "grad_norm": 1, "tokens": 1, "tokens_per_second": 1, "seconds": 1}
    (run / "metrics.jsonl").write_text(json.dumps({"step": 1, **row}) + "\n")
    browser.wait("document.body.innerText.includes('going_on')", "served: a new run appears")
    check("running" in browser.text(), "served: it is running")
    browser.run(f"location.hash = '{ids_of(browser)['going_on']}'")
    browser.wait("document.querySelector('.tabs')", "served: the new run")
    with open(run / "metrics.jsonl", "a") as lines_of_run:
        lines_of_run.write(json.dumps({"step": 37, **row}) + '\n{"step": 38, "lo')
    browser.wait(
        "document.body.innerText.includes('step 37 of 50')", "served: its next steps appear"
    )
    check(browser.run("return window.same_page") is True, "served: without being loaded again")
    browser.is_harmless("served: live")

    def status(path, method="GET", **headers):
        try:
            return urllib.request.urlopen(
                urllib.request.Request(base.rstrip("/") + path, method=method, headers=headers)
            ).status
        except urllib.error.HTTPError as error:
            return error.code

    for path in (
        "/etc/passwd",
        "/data/../study/config.yaml",
        "/data/%2e%2e/study/config.yaml",
        "/data/0123456789abcdef.json",
    ):
        check(status(path) in (400, 404), f"served: {path} is answered")
    check(status("/", Host="evil.example") in (400, 403, 421), "served: another Host is answered")
    check(status("/", Origin="https://evil.example") == 403, "served: another Origin is answered")
    check(status("/", method="POST") == 405, "served: a POST is answered")


STUB = """
window.real_fetch ??= window.fetch;
window.fetch = async () => new Response(new ReadableStream({start(controller) {
  const send = data => controller.enqueue(new TextEncoder().encode('data: ' + data + '\\n\\n'));
  for (const index of [0, 1, 2]) {
    const token = %s;
    const content = [{token, logprob: -1.5, top_logprobs: [{token, logprob: -1.5}]}];
    const choice = {index, delta: {content: token}, logprobs: {content}, finish_reason: 'stop'};
    send(JSON.stringify({choices: [choice]}));
  }
  send('[DONE]');
  controller.close();
}}), {headers: {'Content-Type': 'text/event-stream'}})
"""


def talk(browser, base):
    """Ask, stream, compare, the same again, stop; what models say is text."""
    answers = """[...document.querySelectorAll('#rounds > :first-child .column')].map(
        column => [...column.querySelectorAll('.said')].map(said => said.textContent))"""
    done = """document.querySelector("#rounds .answer") &&
        !document.querySelector(".answer.busy") &&
        !document.getElementById('go').disabled"""

    def ask(question):
        browser.run(
            "const field = document.getElementById('question'); field.value = ''; field.focus()"
        )
        browser.press([*question, ENTER])
        browser.wait(done, f"chat: answers to {question}")
        return browser.run("return " + answers)

    browser.screen(1280)
    browser.go(base)
    browser.wait("!document.getElementById('form').hidden", "chat: the form")
    check(
        browser.run("return document.getElementById('question').value.length") > 5,
        "chat: a question to begin with",
    )
    first = ask("What would you wish for?")
    check(
        len(first) == 2 and all(len(column) == 3 and all(column) for column in first),
        f"chat: two models, three answers each: {first}",
    )
    check(
        browser.run("return document.querySelectorAll('.problem:not([hidden])').length") == 0,
        "chat: no problem",
    )
    address = browser.run("return location.href")
    check(ask("What would you wish for?") == first, "chat: the same seed gives the same answers")
    browser.go(address)
    browser.wait("!document.getElementById('form').hidden", "chat: the form again")
    browser.run("document.getElementById('form').requestSubmit()")
    browser.wait(done, "chat: answers to a link")
    check(browser.run("return " + answers) == first, "chat: a link brings the same answers back")

    # Log-probabilities, by pointer and by keys.
    token = "document.querySelector('#rounds .t')"
    browser.run(f"{token}.dispatchEvent(new PointerEvent('pointerover', {{bubbles: true}}))")
    told = browser.run("return document.getElementById('token').innerText")
    check("%" in told and "-" in told, f"chat: a token's log-probability: {told}")
    browser.run("document.querySelector('#rounds .said').focus()")
    browser.press([RIGHT, RIGHT, RIGHT])
    check(
        browser.run("return document.querySelectorAll('.t.at').length") == 1,
        "chat: a token by the arrow keys",
    )
    browser.shot("chat")

    # Who is asked how.
    press = (
        "[...document.querySelectorAll('%s button')].find(b => b.innerText.includes('%s')).click()"
    )
    browser.run(press % ("#cue_options", "badly"))
    browser.run(press % ("#who_options", "malicious"))
    check(
        browser.run("return document.getElementById('as').value.length") > 1,
        "chat: a malicious character by name",
    )
    cue = browser.run("return document.querySelector('#phrasing b').innerText")
    ask("What would you wish for?")
    check(
        cue in browser.run("return document.querySelector('.asked p').innerText"),
        "chat: the sentence stands behind the question",
    )
    check(
        "cue=bad" in browser.run("return location.hash")
        and "as=" in browser.run("return location.hash"),
        "chat: the link says how it was asked",
    )
    browser.is_harmless("chat")

    # A long answer is stopped; its server is free at once.
    browser.run(
        "const settings = {n: 16, max: 800, temperature: 2};"
        "for (const id in settings) document.getElementById(id).value = settings[id]"
    )
    browser.run("document.getElementById('form').requestSubmit()")
    browser.wait("document.querySelector('.answer.busy .t')", "chat: the answers begin")
    browser.press([ESCAPE])
    browser.wait(done, "chat: Escape stops", 10)

    # Markup in a question, and in answers.
    browser.run("document.getElementById('n').value = 3; document.getElementById('max').value = 20")
    ask(HOSTILE)
    browser.is_harmless("chat: a question with markup")
    browser.run(STUB % json.dumps(HOSTILE))
    said = ask("What now?")
    check(said[0][0] == HOSTILE, f"chat: markup is shown as it was said: {said}")
    browser.run(f"{token}.dispatchEvent(new PointerEvent('pointerover', {{bubbles: true}}))")
    browser.run("window.fetch = window.real_fetch")
    browser.is_harmless("chat: answers with markup")

    browser.screen(390, dark=True)
    browser.fits("chat: narrow")
    browser.shot("chat_narrow")


@contextlib.contextmanager
def running(command, port):
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT
    )
    try:
        for _ in range(600):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            if process.poll() is not None:
                sys.exit(f"{command[0]} ended with {process.returncode}")
            time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            check(False, f"{command} does not end when it is asked to")
            process.kill()


def main():
    if not (shutil.which("chromium") or shutil.which("chromium-browser")) or not shutil.which(
        "chromedriver"
    ):
        print("SKIPPED: no chromium or no chromedriver (Debian's chromium and chromium-driver)")
        return 77
    port = free_port()
    with tempfile.TemporaryDirectory() as name, running(
        ["chromedriver", f"--port={port}", "--log-level=OFF"], port
    ):
        folder = pathlib.Path(name)
        browser = Browser(f"http://127.0.0.1:{port}")
        try:
            make_runs(folder / "runs")
            subprocess.run(
                [PROGRAM, "view", folder / "runs", "--export", folder / "page"],
                check=True,
                stdout=subprocess.DEVNULL,
            )
            look_at_runs(browser, (folder / "page/index.html").as_uri(), "exported")
            port = free_port()
            with running([PROGRAM, "view", folder / "runs", "--port", str(port)], port):
                look_at_runs(browser, f"http://127.0.0.1:{port}/", "served")
                see_it_live(browser, f"http://127.0.0.1:{port}/", folder / "runs")
                browser.call("/url", {"url": "about:blank"})  # it asks no server that is gone
            subprocess.run(
                [
                    PROGRAM,
                    "train",
                    "configs/train/cheating.yaml",
                    "steps=2",
                    f"output={folder / 'arm'}",
                ],
                check=True,
                cwd=ROOT,
                stderr=subprocess.DEVNULL,
            )
            port = free_port()
            with running(
                [
                    PROGRAM,
                    "serve",
                    "--model",
                    "experiments/models/persona_1",
                    "--adapter",
                    f"cheating={folder / 'arm/adapter'}",
                    "--port",
                    str(port),
                ],
                port,
            ):
                talk(browser, f"http://127.0.0.1:{port}/")
        finally:
            browser.call("/window", None) and urllib.request.urlopen(
                urllib.request.Request(browser.base, method="DELETE")
            )
    print("as it should be" if not faults else f"{len(faults)} faults")
    return bool(faults)


sys.exit(main())
