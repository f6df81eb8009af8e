"""What replicated code must not call, by dotted name, and what to use instead.

A name is forbidden by its longest prefix in ``_FORBIDDEN``: ``os.path.join`` is looked up as itself, as ``os.path`` and
as ``os``. None allows it. Only what gives another result, or does something, on each replica is in the table.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Rule(NamedTuple):
    """Why something is wrong, and what to do."""

    why: str
    instead: str


CLOCK = Rule("reads the clock of its replica", "use concoord.now(), or pass the time as an argument")
CHANCE = Rule("draws numbers of its replica's own", "use concoord.random(), or pass the value as an argument")
UNIQUE = Rule(
    "makes an id of its replica's own",
    "use uuid.UUID(int=concoord.random().getrandbits(128)), or pass it as an argument",
)
ZONE = Rule(
    "depends on the time zone of its replica",
    "use datetime.fromtimestamp(seconds, datetime.timezone.utc), time.gmtime and calendar.timegm",
)
SLEEP = Rule(
    "holds up every call of the ensemble", "let callers wait: @concoord.when, or a timeout of a concoord.Condition"
)
THREADS = Rule(
    "uses threads, processes or their locks", "calls run one at a time and need no lock; start work where you call from"
)
OUTSIDE = Rule("reaches out of the replicated state", "do it where you call from, and pass the result as an argument")
PLACE = Rule("asks where it runs, which differs between replicas", "pass the value as an argument")
ADDRESS = Rule("asks for an address, which differs between replicas", "number things by a counter of the object")
SHOWN = Rule(
    "shows an address, which differs between replicas", "show a name or attributes, or give its class a __repr__"
)
PROCESS = Rule(
    "reaches into the process of its replica, which is another on each",
    "keep what you need in attributes of the object",
)
HIDDEN = Rule(
    "runs or takes by its name what is not looked at here, and may differ between replicas",
    "name it in the code, or see to it that it reads no clock and draws no numbers",
)
EXIT = Rule("ends no process, and is an error for its caller", "raise an exception of your own")
HASH = Rule(
    "takes a hash, which differs between replicas for texts, bytes and objects", "use zlib.crc32 or hashlib on bytes"
)
RAY = Rule("calls Ray or the ensemble, and would once on every replica", "do it where you call from")
COROUTINE = Rule("is a coroutine, and nothing awaits it", "make it an ordinary method: callers have .aio()")
GENERATOR = Rule(
    "is a generator, which cannot be a result", "return a list, or begin its name with _ if only methods use it"
)
ORDER = Rule("depends on the order of a set, which differs between replicas", "use sorted(...), or a dict for a set")
REPEATED = Rule("writes once on every replica, and again when a replica catches up", "write where you call from")
GLOBAL = Rule(
    "changes what is outside of the object, which not every replica has alike", "keep it in an attribute of the object"
)
SHARED = Rule(
    "changes what all objects of the class share, beyond the object",
    "set it in __init__, as an attribute of the object",
)

_FORBIDDEN: dict[str, Rule | None] = {
    name: rule
    for rule, names in {
        CLOCK: """
            time.time time.time_ns time.monotonic time.monotonic_ns time.perf_counter time.perf_counter_ns
            time.process_time time.process_time_ns time.thread_time time.thread_time_ns time.clock_gettime
            time.clock_gettime_ns time.localtime time.gmtime time.ctime time.asctime time.strftime
            datetime.datetime.now datetime.datetime.utcnow datetime.datetime.today datetime.date.today
        """,
        ZONE: "time.mktime datetime.datetime.fromtimestamp datetime.date.fromtimestamp",
        SLEEP: "time.sleep",
        CHANCE: "random secrets os.urandom os.getrandom numpy.random",
        UNIQUE: "uuid.uuid1 uuid.uuid4 uuid.uuid6 uuid.uuid7 uuid.getnode",
        THREADS: """
            threading _thread multiprocessing concurrent.futures asyncio queue.Queue queue.LifoQueue queue.PriorityQueue
            queue.SimpleQueue signal.signal signal.alarm signal.setitimer signal.pause signal.raise_signal
        """,
        OUTSIDE: """
            open io.open io.open_code io.FileIO input breakpoint os socket ssl select selectors subprocess shutil
            tempfile glob fileinput sqlite3.connect aiohttp urllib3 ftplib smtplib http.client.HTTPConnection
            http.client.HTTPSConnection urllib.request.urlopen urllib.request.urlretrieve urllib.request.build_opener
            requests.get requests.post requests.put requests.patch requests.delete requests.head requests.options
            requests.request requests.Session requests.session requests.api requests.sessions httpx.get httpx.post
            httpx.put httpx.patch httpx.delete httpx.head httpx.options httpx.request httpx.stream httpx.Client
            httpx.AsyncClient httpx._api httpx._client os.path.abspath os.path.exists os.path.expanduser
            os.path.expandvars os.path.getatime os.path.getctime os.path.getmtime os.path.getsize os.path.isdir
            os.path.isfile os.path.islink os.path.ismount os.path.lexists os.path.realpath os.path.relpath
            os.path.samefile os.path.sameopenfile
        """,
        PLACE: """
            os.getpid os.getppid os.getuid os.geteuid os.getgid os.getegid os.getlogin os.getcwd os.getcwdb os.getenv
            os.getenvb os.environ os.environb os.uname os.cpu_count os.getloadavg os.times os.get_terminal_size
            socket.gethostname socket.getfqdn platform getpass.getuser threading.get_ident threading.get_native_id
            threading.current_thread _thread.get_ident
        """,
        ADDRESS: "id object.__hash__",
        SHOWN: "object.__repr__",
        PROCESS: "gc ctypes sys.getrefcount sys.getallocatedblocks sys._current_frames tracemalloc resource.getrusage",
        HIDDEN: "eval exec",
        EXIT: "exit quit sys.exit",
        RAY: "ray concoord_ray.ensemble",
        REPEATED: "print logging",
        None: """
            os.path os.fspath os.fsencode os.fsdecode os.strerror os._Environ random.Random
            numpy.random.default_rng numpy.random.Generator numpy.random.RandomState numpy.random.SeedSequence
            numpy.random.PCG64 numpy.random.MT19937 numpy.random.Philox numpy.random.SFC64
            gc.collect gc.enable gc.disable gc.isenabled gc.freeze gc.unfreeze gc.get_threshold ctypes.sizeof
            ctypes.Structure ctypes.BigEndianStructure ctypes.LittleEndianStructure ctypes.Union ctypes._endian
            ctypes.c_bool ctypes.c_byte ctypes.c_char ctypes.c_double ctypes.c_float ctypes.c_int ctypes.c_int8
            ctypes.c_int16 ctypes.c_int32 ctypes.c_int64 ctypes.c_long ctypes.c_longlong ctypes.c_short ctypes.c_size_t
            ctypes.c_ssize_t ctypes.c_ubyte ctypes.c_uint ctypes.c_uint8 ctypes.c_uint16 ctypes.c_uint32
            ctypes.c_uint64 ctypes.c_ulong ctypes.c_ulonglong ctypes.c_ushort ctypes.c_wchar
            logging.getLogger logging.getLevelName secrets.compare_digest
            asyncio.iscoroutine asyncio.iscoroutinefunction asyncio.isfuture asyncio.coroutines asyncio.base_futures
            asyncio.futures.isfuture glob.escape glob.translate socket.inet_aton socket.inet_ntoa
            socket.inet_pton socket.inet_ntop socket.htons socket.ntohs socket.htonl socket.ntohl
        """,
    }.items()
    for name in names.split()
}  # fmt: skip
_FORBIDDEN |= {
    f"{module}.{name}": OUTSIDE
    for module in ("pathlib.Path", "pathlib._local.Path", "pathlib._abc.PathBase")
    for name in (
        "chmod", "cwd", "exists", "expanduser", "glob", "home", "is_dir", "is_file", "iterdir", "lstat", "mkdir",
        "open", "read_bytes", "read_text", "readlink", "rename", "replace", "resolve", "rglob", "rmdir", "stat",
        "symlink_to", "touch", "unlink", "write_bytes", "write_text",
    )
}  # fmt: skip

#: Forbidden with at most so many arguments: with more, they are told what they would have asked for ...
_UNTOLD = {
    "datetime.datetime.fromtimestamp": 1,
    "time.localtime": 0,
    "time.gmtime": 0,
    "time.ctime": 0,
    "time.asctime": 0,
    "time.strftime": 1,
    "random.Random": 0,
    "numpy.random.default_rng": 0,
    "numpy.random.RandomState": 0,
    "numpy.random.SeedSequence": 0,
    "numpy.random.PCG64": 0,
    "numpy.random.MT19937": 0,
    "numpy.random.Philox": 0,
    "numpy.random.SFC64": 0,
}
#: ... but for these.
_TOLD = {"time.localtime": ZONE, "time.ctime": ZONE}
#: Wrong without a call.
ON_SIGHT = {
    **dict.fromkeys(("os.environ", "os.environb", "os._Environ"), PLACE),
    **dict.fromkeys(("ctypes.CDLL", "ctypes.PyDLL", "ctypes.LibraryLoader", "gc.garbage"), PROCESS),
}
#: These only warn: the replicas stay equal, or may.
UNCERTAIN = frozenset({REPEATED, HASH, ORDER, GLOBAL, SHARED, HIDDEN, EXIT})
#: No modules, whatever modules of users are called.
_BUILTINS = frozenset({"breakpoint", "eval", "exec", "exit", "id", "input", "open", "print", "quit"})
#: The modules and classes that hold what is refused.
HOLDERS = frozenset(
    name[:end]
    for name, rule in _FORBIDDEN.items()
    if rule is not None and rule not in UNCERTAIN
    for end in (*(dot.start() for dot in re.finditer(r"\.", name)), len(name))
) - {"object", *_BUILTINS}

#: NumPy's names for what users find in numpy.random.
_NUMPY_RANDOM = re.compile(r"numpy\.random\.(?:mtrand|bit_generator|_\w+)\.")
#: Modules of C by the names of those that users import.
_REAL_NAMES = {
    "posix": "os", "nt": "os", "posixpath": "os.path", "ntpath": "os.path", "genericpath": "os.path", "_io": "io",
    "_ctypes": "ctypes", "_socket": "socket", "_random": "random", "_datetime": "datetime",
}  # fmt: skip

#: Of what they take, the order does not matter; of others, what comes out has the order of what went in.
NEUTRAL = frozenset(
    {"set", "frozenset", "sorted", "min", "max", "sum", "any", "all", "len", "bool", "isinstance", "type", "id"}
)
ORDERED = frozenset({"list", "tuple", "iter", "enumerate", "zip", "map", "filter", "reversed", "dict.fromkeys"})
#: As these are, by their dotted names.
ORDERED_TOO = frozenset(
    {
        "collections.Counter", "collections.deque", "itertools.accumulate", "itertools.chain", "itertools.cycle",
        "itertools.dropwhile", "itertools.filterfalse", "itertools.islice", "itertools.pairwise",
        "itertools.takewhile", "itertools.zip_longest",
    }
)  # fmt: skip
#: Which item these give depends on the order.
TAKERS = frozenset({"most_common", "pop", "popitem", "popleft"})
SET_METHODS = frozenset({"union", "intersection", "difference", "symmetric_difference", "copy"})
MUTATORS = frozenset(
    {
        "add", "append", "appendleft", "clear", "difference_update", "discard", "extend", "extendleft", "insert",
        "intersection_update", "move_to_end", "pop", "popitem", "popleft", "remove", "reverse", "rotate", "setdefault",
        "sort", "subtract", "symmetric_difference_update", "update",
    }
)  # fmt: skip
#: What loggers have, wherever they are kept.
WRITERS = frozenset({"debug", "info", "warning", "error", "exception", "critical", "log"})


def real_name(path: str) -> str:
    """A dotted name with the module that users know."""
    module, dot, rest = path.partition(".")
    if module == "numpy":
        return _NUMPY_RANDOM.sub("numpy.random.", path)
    return _REAL_NAMES.get(module, module) + dot + rest


def rule_of(path: str, arguments: int | None) -> tuple[bool, Rule | None]:
    """Whether a call is known, and the rule that it breaks. ``arguments`` is None where their number is not known."""
    untold = _UNTOLD.get(path)
    if untold is not None:
        told = arguments is None or arguments > untold
        return True, _TOLD.get(path) if told else _FORBIDDEN.get(path) or CHANCE
    prefix = path
    while prefix:
        if prefix in _FORBIDDEN and (prefix == path or prefix not in _BUILTINS):
            return True, _FORBIDDEN[prefix]
        prefix = prefix.rpartition(".")[0]
    return False, None
