"""The command ``fusednn``.

Exit status: 0 where it did what was asked, 2 where it could not, with one line on standard error
that says why, 130 where it was interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial
from typing import NoReturn

from fusednn.cli import bench, info, pretrain, train

# What a user's input can cause; anything else is a defect of the program and keeps its traceback.
_USER_ERRORS = (OSError, ValueError, ArithmeticError, MemoryError, ImportError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments, without the program's name; those of the process if not given.

    Returns
    -------
    int
        The exit status.

    Raises
    ------
    SystemExit
        With status 0, after ``--help``.
    """
    try:
        arguments = argument_parser().parse_args(argv)
        arguments.run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _fail("interrupted", status=130)
    except BrokenPipeError:
        # Whoever read our output has left: be silent, also when Python flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2
    except _USER_ERRORS as error:
        return _fail(_one_line(error))
    return 0


class _Parser(argparse.ArgumentParser):
    """Reports a bad argument as every other error: in one line."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message} (see {self.prog} --help)")


def argument_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line; `run` of its result is the function to call."""
    parser = _Parser(
        prog="fusednn",
        description="Train deep networks with fused BatchNorm, leaky ReLU and optimizer kernels.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=partial(_without_command, parser))
    parser.add_argument(
        "--version",
        dest="run",
        action="store_const",
        const=_print_version,
        help="print the version and exit",
    )
    for name, summary in _EMBEDDING.items():
        parser.add_argument(
            f"--{name}",
            dest="embedding",
            action="append_const",
            const=name,
            help=f"print {summary} and exit",
        )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command in (info, train, pretrain, bench):
        summary = (command.__doc__ or "").partition("\n")[0]
        command.add_arguments(
            commands.add_parser(
                command.__name__.rpartition(".")[2],
                help=summary,
                description=summary,
                allow_abbrev=False,
            )
        )
    return parser


# What build scripts of C and C++ programs ask for.
_EMBEDDING = {
    "includes": "the compiler's options for C and C++ programs",
    "libs": "the linker's options for C and C++ programs",
    "cmakedir": "the folder of the CMake package (fusednn_DIR)",
}


def _without_command(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    if not arguments.embedding:
        parser.print_help()
        return
    from fusednn import embedding

    found = {
        "includes": embedding.compile_flags,
        "libs": embedding.link_flags,
        "cmakedir": embedding.get_cmake_dir,
    }
    print(*(found[name]() for name in arguments.embedding))


def _print_version(arguments: argparse.Namespace) -> None:
    from fusednn import __version__

    print(f"fusednn {__version__}")


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{os.fspath(error.filename)}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def _fail(message: str, status: int = 2) -> int:
    print(f"fusednn: error: {message}", file=sys.stderr)
    return status
