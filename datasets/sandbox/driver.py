"""Runs untrusted programs: driver.py SECONDS MEMORY_MB bubblewrap|rlimits, part of the binary.

Reads a job from each line of its input and prints a JSON list of results for it: the value of each
call as a literal, or {"error": …}. Each job runs in a child of its own, from which a bounded text
is read.
"""
import ctypes, json, os, resource, select, signal, sys, time

seconds, memory = float(sys.argv[1]), int(sys.argv[2]) << 20
# Bubblewrap's own process is the first.
own_namespace = sys.argv[3] == "bubblewrap" and os.getpid() <= 2
# prctl(PR_SET_DUMPABLE, 0): closes /proc/PID of this process to programs of the same user, which
# could write results of their own to its output.
ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)

escapes = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})

def literal(value):
    if value is None or type(value) in (bool, int, float):
        return repr(value)
    if type(value) is str:
        return '"' + value.translate(escapes) + '"'
    if type(value) is tuple and len(value) == 1:
        return "(" + literal(value[0]) + ",)"
    if type(value) in (list, tuple):
        return ("[%s]" if type(value) is list else "(%s)") % ", ".join(map(literal, value))
    if type(value) is set and value:
        return "{" + ", ".join(sorted(map(literal, value))) + "}"
    if type(value) is dict:  # equal dictionaries, equal texts
        items = sorted(literal(k) + ": " + literal(v) for k, v in value.items())
        return "{" + ", ".join(items) + "}"
    raise TypeError("returned a " + type(value).__name__)

def outcome(value, expected):
    try:
        return literal(value)
    except TypeError:
        # An object of the program's own passes a visible test where it says so itself, as in the
        # user's assert.
        if expected is not None and value == eval(expected):
            return expected
        raise

def child(job, out):
    os.setsid()
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.dup2(out, 3)
    os.closerange(4, 256)
    if os.getuid() == 0:  # root's processes are not limited, and could end the driver
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    for what, limit in ((resource.RLIMIT_CPU, int(seconds) + 1), (resource.RLIMIT_AS, memory),
                        (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_NOFILE, 16),
                        (resource.RLIMIT_CORE, 0), (resource.RLIMIT_NPROC, 0)):
        resource.setrlimit(what, (limit, limit))
    visible, function = job["visible"], job["function"]
    results = []
    names = {"tests": {str(eval(a)): eval(b) for a, b in visible}}
    try:
        exec(compile(job["source"], "program", "exec"), names)
        for i, argument in enumerate(job["arguments"]):
            try:
                expected = visible[i][1] if i < len(visible) else None
                value = names[function](*eval("(" + argument + ",)"))
                results.append(outcome(value, expected))
            except BaseException as error:
                results.append({"error": type(error).__name__})
    except BaseException as error:
        results = [{"error": type(error).__name__}] * len(job["arguments"])
    os.write(3, json.dumps(results).encode())

def run(job):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            child(job, write)
        finally:
            os._exit(0)
    os.close(write)
    text, end, timed_out = b"", time.monotonic() + seconds, False
    while len(text) < 65536:
        left = end - time.monotonic()
        if left <= 0 or not select.select([read], [], [], left)[0]:
            timed_out = True
            break
        part = os.read(read, 65536)
        if not part:
            break
        text += part
    os.close(read)
    try:
        # In a namespace of our own everything but this process goes; elsewhere the child's group.
        os.kill(-1, signal.SIGKILL) if own_namespace else os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    os.waitpid(pid, 0)
    try:
        results = json.loads(text)
        assert type(results) is list and len(results) == len(job["arguments"])
        return results
    except Exception:
        return [{"error": "time-out" if timed_out else "crashed"}] * len(job["arguments"])

print("ready", flush=True)
for line in sys.stdin:
    print(json.dumps(run(json.loads(line))), flush=True)
