"""`medvlm` on the command line: which function, and what becomes of its errors.

Exit codes: 0 done, 1 the work failed, 2 the call was wrong, 130 interrupted. An expected error is one line on stderr;
its traceback comes with `--debug`. Neither torch nor the network is touched before a command runs.
"""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path

import medvlm
from medvlm import commands
from medvlm.options import bind, build_parser, read_overrides

OURS = ("volumes", "reports", "experts", "evaluation", "medvlm")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code. A wrong call leaves through SystemExit(2), like argparse."""
    parser = build_parser(commands.COMMANDS, commands.__doc__ or "", medvlm.__version__)
    known, unknown = parser.parse_known_args(sys.argv[1:] if argv is None else argv)
    values = vars(known)
    debug = values.pop("debug", False)
    if "command_" not in values:
        if unknown:
            parser.error(f"unrecognized argument: {unknown[0]}")
        parser.print_help(sys.stderr)
        return 2
    command, own = values.pop("command_"), values.pop("parser_")
    overrides = read_overrides(unknown, command, own)
    positional, named = bind(command, values)
    if not debug:
        warnings.simplefilter("ignore")  # libraries quote header values in warnings, and those can name a patient
    try:
        command(*positional, *overrides, **named)
        sys.stdout.flush()
    except Exception as error:
        return report(error, own.prog, debug)
    except KeyboardInterrupt:
        print(f"{own.prog}: interrupted", file=sys.stderr)
        return 130
    return 0


def report(error: Exception, where: str, debug: bool) -> int:
    """Print an error on one line of stderr, with `debug` after its traceback. Returns the exit code, 1."""
    if isinstance(error, BrokenPipeError):  # `medvlm experts | head`: the reader has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if debug:
        traceback.print_exception(error)
    words = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)  # a KeyError adds quotes
    message = " ".join(words.split()) or type(error).__name__
    if not is_expected(error):
        frame = traceback.extract_tb(error.__traceback__)[-1]
        message = (
            f"unexpected {type(error).__name__} in {Path(frame.filename).name}:{frame.lineno}: {message}."
            " This is a fault of medvlm, not of your call; run again with --debug for the traceback"
        )
    print(f"{where}: {message}", file=sys.stderr)
    return 1


def is_expected(error: Exception) -> bool:
    """Whether it is a refusal and no surprise: the system's (a missing file or package), one of our own types of error,
    or anything that a line of ours raises in so many words. An error from inside a library is a surprise.
    """
    if isinstance(error, OSError | ImportError) or type(error).__module__.partition(".")[0] in OURS:
        return True
    last = traceback.extract_tb(error.__traceback__)[-1]
    folder = Path(last.filename).resolve().parent
    ours = folder.parent == Path(__file__).resolve().parent.parent and folder.name in OURS
    return ours and (last.line or "").startswith("raise") and not isinstance(error, AssertionError)


if __name__ == "__main__":
    sys.exit(main())
