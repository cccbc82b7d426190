"""The commands, their flags, and the parser of both.

A parser of our own, because a user's hands expect kubectl's: `--wait` and `--wait=false` where `--wait NAME`
must leave NAME alone, `-o=yaml` beside `-oyaml` and `-o yaml`, and the words of pflag for what is wrong.
argparse does none of these, and importing it takes 5 ms of the 35 that a command may take.
"""

from __future__ import annotations

from ovnreserve.cli import durations, moments
from ovnreserve.cli.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Options:
    """What the command line said. A field that no flag has set holds its default."""

    def __init__(self) -> None:
        self.command = ""
        self.arguments: list[str] = []
        self.help = False
        self.version = False
        self.server = ""
        self.filenames: list[str] = []
        self.output = ""
        self.selector = ""
        self.no_headers = False
        self.barrier = "none"  # apply --wait=none|sb
        self.wait = True  # delete --wait
        self.timeout: float | None = None  # seconds
        self.ignore_not_found = False
        self.condition = ""  # wait --for
        self.dry_run = False
        self.subnet = ""
        self.count: int | None = None
        self.contiguous = False
        self.family: int | None = None
        self.explain: str | None = None
        self.about = ""  # get events --for
        self.at: float | None = None  # history --at, seconds since the epoch
        self.repair = False
        self.namespace = ""
        self.all_namespaces = False
        self.overwrite = False
        self.replicas: int | None = None
        self.current_replicas = -1


def _text(value: str) -> str:
    return value


def _boolean(value: str) -> bool:
    if value in ("1", "t", "T", "TRUE", "true", "True"):
        return True
    if value in ("0", "f", "F", "FALSE", "false", "False"):
        return False
    raise ValueError(f'strconv.ParseBool: parsing "{value}": invalid syntax')


def _barrier(value: str) -> str:
    if value not in ("none", "sb"):
        raise ValueError("must be none or sb")
    return value


def _number(value: str) -> int:
    if not (value.isascii() and value.removeprefix("-").isdecimal()) or len(value) > 18:
        raise ValueError(f'strconv.ParseInt: parsing "{value}": invalid syntax')
    return int(value)


def _family(value: str) -> int:
    if value not in ("4", "6"):
        raise ValueError("must be 4 or 6")
    return int(value)


class Flag:
    """`field` of Options is what it sets; a flag without `operand` stands alone and means true."""

    def __init__(
        self, field: str, operand: str, convert: Callable[[str], object], explanation: str, short: str = ""
    ) -> None:
        self.field = field
        self.operand = operand
        self.convert = convert
        self.explanation = explanation
        self.short = short


class Command:
    """`usage` follows the command's name in its usage line."""

    def __init__(self, usage: str, summary: str, flags: dict[str, Flag]) -> None:
        self.usage = usage
        self.summary = summary
        self.flags = flags


_FILENAME = Flag("filenames", "FILE", _text, "A file, a directory, or - for standard input; can be repeated.", "f")
_NAMESPACE = Flag("namespace", "NAME", _text, "That of StatefulSets and VirtualMachines (default default).", "n")
_APPLY = {
    "namespace": _NAMESPACE,
    "filename": _FILENAME,
    "wait": Flag("barrier", "none|sb", _barrier, "sb: return once ovn-northd has seen it (default none)."),
    "timeout": Flag("timeout", "30s", durations.parse, "How long --wait=sb waits."),
}

GLOBAL = {
    "server": Flag(
        "server",
        "ADDRESS",
        _text,
        "The daemon's socket or an http:// URL; of several between commas the one that is active "
        "(default $OVNRESERVE_SERVER, else in $OVN_RUNDIR).",
    ),
    "help": Flag("help", "", _boolean, "Show the usage.", "h"),
}

COMMANDS = {
    "apply": Command("-f FILE|-|DIR", "Create what is not there; change what may be changed of what is.", _APPLY),
    "create": Command("-f FILE|-|DIR", "Create; what is there already is an error.", _APPLY),
    "get": Command(
        "ip|ippool|subnet|statefulset|virtualmachine [NAME...] | ip/NAME... | events",
        "Show one or many resources.",
        {
            "namespace": Flag(
                "namespace",
                "NAME",
                _text,
                "That of StatefulSets and VirtualMachines (default default), and of events (default all).",
                "n",
            ),
            "all-namespaces": Flag("all_namespaces", "", _boolean, "Those of every namespace.", "A"),
            "for": Flag("about", "KIND/NAME", _text, "Only the events of that object, such as ip/vm-1.default."),
            "output": Flag("output", "yaml|json|wide|name", _text, "The format (default a table).", "o"),
            "selector": Flag("selector", "KEY=VALUE,...", _text, "Only those whose labels match.", "l"),
            "no-headers": Flag("no_headers", "", _boolean, "Leave the table's first line out."),
        },
    ),
    "describe": Command(
        "ip|ippool|subnet|statefulset|virtualmachine [NAME...] | ip/NAME...",
        "Show resources in detail, with their conditions and events.",
        {
            "namespace": _NAMESPACE,
            "all-namespaces": Flag("all_namespaces", "", _boolean, "Those of every namespace.", "A"),
            "selector": Flag("selector", "KEY=VALUE,...", _text, "Only those whose labels match.", "l"),
        },
    ),
    "label": Command(
        "ip NAME... KEY=VALUE... | ip/NAME... KEY-",
        "Set and remove labels; ovn.kubernetes.io/ip_reserved=true reserves an IP, =false gives it back to its port.",
        {
            "namespace": _NAMESPACE,
            "overwrite": Flag("overwrite", "", _boolean, "Change also labels that have another value."),
            "selector": Flag("selector", "KEY=VALUE,...", _text, "All whose labels match, instead of names.", "l"),
        },
    ),
    "scale": Command(
        "statefulset NAME... --replicas=N | statefulset/NAME... --replicas=N",
        "Tell how many pods a StatefulSet has: the IPs of ordinals beyond are not retained any more.",
        {
            "namespace": _NAMESPACE,
            "replicas": Flag("replicas", "N", _number, "The new number."),
            "current-replicas": Flag("current_replicas", "N", _number, "Scale only from this number (-1: any)."),
        },
    ),
    "delete": Command(
        "ip|ippool|statefulset|virtualmachine NAME... | ip/NAME... | -f FILE|-|DIR",
        "Release addresses and delete the resources.",
        {
            "namespace": _NAMESPACE,
            "filename": _FILENAME,
            "wait": Flag("wait", "", _boolean, "Return once they are gone (default true; --wait=false)."),
            "timeout": Flag("timeout", "30s", durations.parse, "How long to wait for that (default a week)."),
            "ignore-not-found": Flag("ignore_not_found", "", _boolean, "What is not there is no error."),
        },
    ),
    "wait": Command(
        "--for=condition=TYPE[=STATUS]|delete ip/NAME...",
        "Wait for a condition of resources, or until they are gone.",
        {
            "for": Flag("condition", "CONDITION", _text, "condition=TYPE, condition=TYPE=False, or delete."),
            "timeout": Flag(
                "timeout", "30s", durations.parse, "0 checks once, less than 0 waits a week (default 30s)."
            ),
        },
    ),
    "suggest": Command(
        "--subnet=NAME [-n N] | --subnet=NAME --explain=ADDRESS",
        "Name addresses of a subnet that are free, or say why one is not.",
        {
            "subnet": Flag("subnet", "NAME", _text, "The subnet."),
            "count": Flag("count", "N", _number, "How many addresses (default 1, at most 65536).", "n"),
            "contiguous": Flag("contiguous", "", _boolean, "Addresses without a gap between them."),
            "family": Flag("family", "4|6", _family, "IPv4 or IPv6 (default IPv4 where the subnet has it)."),
            "explain": Flag("explain", "ADDRESS", _text, "Say why the address is not free; exit status 1 if so."),
            "output": Flag("output", "json", _text, "The format (default one address a line).", "o"),
        },
    ),
    "history": Command(
        "NAME|ADDRESS|MAC",
        "Show who has held a name, an address or a MAC, also what is long gone.",
        {
            "at": Flag("at", "TIME", moments.parse, "Who held it then: 2026-11-27T08:00:00Z, 2026-11-27, or 2h ago."),
            "output": Flag("output", "yaml|json|wide", _text, "The format (default a table).", "o"),
        },
    ),
    "verify": Command(
        "",
        "Compare ledger, records, exclude_ips and ports; exit status 1 if they differ.",
        {
            "repair": Flag("repair", "", _boolean, "Repair what is ours, and show what was and what is left."),
            "timeout": Flag("timeout", "30s", durations.parse, "How long a repair may take (default 30s)."),
            "output": Flag("output", "json", _text, "The format (default one difference a line).", "o"),
        },
    ),
    "backup": Command("FILE|-", "Write a copy of the daemon's ledger to a file, or to standard output.", {}),
    "restore": Command(
        "FILE",
        "Reserve again what a backup has and the daemon has not, with the same addresses.",
        {"dry-run": Flag("dry_run", "", _boolean, "Show what would be reserved, and ask for nothing.")},
    ),
    "status": Command(
        "",
        "Show what the daemon is and sees.",
        {"output": Flag("output", "json", _text, "The format (default labelled lines).", "o")},
    ),
    "version": Command("", "Show the versions of the command line and of the daemon.", {}),
    "sandbox": Command("...", "Run a private OVN and a daemon in one directory, for trying.", {}),
}


def parse(argv: list[str]) -> Options:
    """Read a whole command line. Raises UsageError. What follows `sandbox` is left as it is."""
    options = Options()
    rest = argv[:]
    while rest:
        word = rest.pop(0)
        if word == "--":
            options.arguments += rest
            break
        if word.startswith("-") and word != "-":
            _flag(word, rest, options)
        elif options.command:
            options.arguments.append(word)
        else:
            options.command = _command(word)
            if options.command == "sandbox":
                options.arguments = rest
                break
    return options


def _command(word: str) -> str:
    if word not in COMMANDS and word != "help":
        raise UsageError(f'unknown command "{word}" for "ovnreserve"')
    return word


def _flag(word: str, rest: list[str], options: Options) -> None:
    """Take one flag, or a cluster of short ones, and the value from `rest` where it needs one."""
    known = GLOBAL | (COMMANDS[options.command].flags if options.command in COMMANDS else {})
    if not options.command and word == "--version":
        options.version = True
        return
    if word.startswith("--"):
        name, equals, value = word[2:].partition("=")
        if name not in known:
            raise UsageError(f"unknown flag: --{name}", options.command)
        flag = known[name]
        if not equals:
            if not flag.operand:
                value = "true"
            elif rest:
                value = rest.pop(0)
            else:
                raise UsageError(f"flag needs an argument: --{name}", options.command)
        _set(options, flag, name, value)
        return
    letters = word[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        name = next((name for name, flag in known.items() if flag.short == letter), "")
        if not name:
            raise UsageError(f"unknown shorthand flag: '{letter}' in {word}", options.command)
        flag = known[name]
        if letters.startswith("="):
            value, letters = letters[1:], ""
        elif not flag.operand:
            value = "true"
        elif letters:
            value, letters = letters, ""
        elif rest:
            value = rest.pop(0)
        else:
            raise UsageError(f"flag needs an argument: '{letter}' in {word}", options.command)
        _set(options, flag, name, value)


def _set(options: Options, flag: Flag, name: str, value: str) -> None:
    try:
        converted = flag.convert(value)
    except ValueError as error:
        title = f"-{flag.short}, --{name}" if flag.short else f"--{name}"
        what = f'invalid argument "{value}" for "{title}" flag: {error}'
        raise UsageError(what, options.command) from error
    if flag.field == "filenames":
        options.filenames.append(value)
    else:
        setattr(options, flag.field, converted)


def usage(command: str = "") -> str:
    """The help text of a command, or of the program."""
    if command not in COMMANDS:
        width = max(map(len, COMMANDS))
        lines = [
            "ovnreserve keeps IP addresses for named Pods and VMs in OVN's northbound database.",
            "",
            "Commands:",
        ]
        lines += [f"  {name:{width}}  {each.summary}" for name, each in COMMANDS.items()]
        flags = {**GLOBAL, "version": Flag("version", "", _boolean, "Show the version of the command line.")}
        tail = "ovnreserve COMMAND [flags]"
    else:
        lines = [COMMANDS[command].summary]
        flags = COMMANDS[command].flags | GLOBAL
        tail = f"ovnreserve {command} {COMMANDS[command].usage}".rstrip() + " [flags]"
    titles = {_title(name, flag): flag.explanation for name, flag in flags.items()}
    width = max(map(len, titles))
    lines += ["", "Flags:", *(f"  {title:{width}}  {text}" for title, text in titles.items())]
    return "\n".join([*lines, "", "Usage:", f"  {tail}"])


def _title(name: str, flag: Flag) -> str:
    short = f"-{flag.short}, " if flag.short else "    "
    return f"{short}--{name}={flag.operand}" if flag.operand else f"{short}--{name}"
