"""The command line: parse, call, print, exit. 0 healthy, 1 findings, 2 could not examine."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from whyvae import __version__, pages
from whyvae.command_run import FINDINGS, HEALTHY, NOT_EXAMINED, complain, run_command
from whyvae.command_train import add_sample, add_train
from whyvae.command_tune import add_tune
from whyvae.probe import debugging

EXIT_STATUS = "exit status: 0 healthy, 1 findings, 2 could not examine (the reason on stderr)"
RUN_USAGE = """whyvae run [options] SCRIPT [ARGS...]
       whyvae run [options] -m MODULE [ARGS...]"""
# Options of `run` that take no value; all others take one, and so the place of SCRIPT is known.
FLAGS = {"-h", "--help", "--quiet", "-q", "--no-html", "--apply"}


def main(argv: Sequence[str] | None = None) -> int:
    own, target = split(list(sys.argv[1:] if argv is None else argv))
    parser = _parser()
    options = parser.parse_args(own)
    if options.command is None:
        parser.print_help()
        return NOT_EXAMINED
    options.target = target
    try:
        status: int = options.call(options)
    except KeyboardInterrupt:
        return complain("interrupted before the examination was done")
    except Exception as error:  # the user never gets our traceback
        if debugging():
            raise
        return complain(f"internal error: {error!r} (WHYVAE_DEBUG=1 shows where)")
    return status


def split(argv: list[str]) -> tuple[list[str], list[str]]:
    """Our options, and SCRIPT with everything after it, which is the script's own.

    argparse cannot: its REMAINDER swallows our options, or eats a `--` that is the script's.
    """
    if argv[:1] not in (["run"], ["fix"]):
        return argv, []
    at = 1
    while at < len(argv):
        token = argv[at]
        if token == "--":  # noqa: S105 - no password
            return argv[:at], argv[at + 1 :]
        if token == "-m":  # noqa: S105
            return argv[: at + 1], argv[at + 1 :]
        if not token.startswith("-") or token == "-":  # noqa: S105
            return argv[:at], argv[at:]
        at += 1 if token in FLAGS or "=" in token else 2
    return argv, []


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="whyvae",
        description="Why does my VAE fail to generate? Runs a training script, and says why.",
        epilog=EXIT_STATUS,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"whyvae {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    _add_run(commands)
    _add_fix(commands)
    add_train(commands, EXIT_STATUS)
    add_tune(commands)
    add_sample(commands, EXIT_STATUS)
    command = commands.add_parser("rules", help="the catalogue of diagnoses")
    command.set_defaults(call=_rules)
    command = commands.add_parser("explain", help="the page of one diagnosis")
    command.add_argument("code", metavar="CODE", help="such as OBJ02, or reduction-mismatch")
    command.set_defaults(call=_explain)
    command = commands.add_parser("demo", help="classic failures, diagnosed; downloads nothing")
    command.set_defaults(call=_demo)
    return parser


def _add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "run",
        help="run an unmodified PyTorch training script, watch it, examine what it trained",
        description="Runs an unmodified training script, watches it, examines the VAE it trains. "
        "Options stand before SCRIPT; everything after it belongs to the script.",
        usage=RUN_USAGE,
        epilog=EXIT_STATUS,
        allow_abbrev=False,
    )
    _add_script_options(command)
    command.set_defaults(call=_run, fail=command.error)


def _add_fix(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "fix",
        help="run a training script, treat what is found by retraining it, write the patch that cures it",
        description="Runs the script as `whyvae run` does, then retrains it with one thing changed at a time, and says "
        "what that did to its samples. No file of yours is touched without --apply.",
        usage=RUN_USAGE.replace("whyvae run", "whyvae fix"),
        epilog="exit status: 0 healthy, or cured with --apply; 1 findings; 2 could not examine (the reason on stderr)",
        allow_abbrev=False,
    )
    _add_script_options(command)
    add = command.add_argument
    budget = "for all trials together: a share of one training run (default 1.5, but at least four minutes), or seconds: 300s"
    add("--budget", metavar="B", type=_budget, help=budget)
    add("--seeds", metavar="N", type=_positive, default=1, help="seeds the best treatment is tried with (%(default)s)")
    add("--jobs", metavar="N", type=_positive, default=2, help="trials at once on this machine (%(default)s)")
    add("--engine", choices=("local", "ray"), default="local", help="where trials run (%(default)s)")
    add("--address", metavar="HOST", help="of a Ray cluster; without it Ray starts one here")
    add("--apply", action="store_true", help="apply the patch to your files")
    add(
        "--resume",
        metavar="DIR",
        help="the run folder of a fix that was broken off: what is done there is not done again",
    )
    command.set_defaults(call=_fix, fail=command.error)


def _add_script_options(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("-m", dest="module", action="store_true", help="run a module, as python -m does")
    into = "write the record there; - for stdout: what the script prints then goes to stderr"
    add("--json", metavar="PATH", help=into)
    out = "where the run folder goes (%(default)s)"
    add("--out", metavar="DIR", default="whyvae-runs", help=out)
    add("--steps", metavar="N", type=_positive, help="stop the script after N optimiser steps")
    add("--seed", metavar="N", type=int, help="seed random, numpy and torch before the script")
    for name, what in (("--select", "only these"), ("--ignore", "all but these")):
        codes = f"{what} diagnoses: codes or prefixes, such as OBJ01,POS"
        add(name, metavar="CODES", type=_codes, action="extend", help=codes)
    add("-q", "--quiet", action="store_true", help="print the verdict line only")
    add("--no-html", action="store_true", help="write no HTML report")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of steps (1 or more)")
    return int(text)


def _codes(text: str) -> list[str]:
    codes = [code.strip().upper() for code in text.split(",") if code.strip()]
    unknown = [code for code in codes if not pages.known(code)]
    if unknown or not codes:
        raise argparse.ArgumentTypeError(f"{text!r} matches no diagnosis; see `whyvae rules`")
    return codes


def _run(options: argparse.Namespace) -> int:
    if not options.target:
        _fail(options, "MODULE is missing" if options.module else "SCRIPT is missing")
    return run_command(options)


def _budget(text: str) -> object:
    from whyvae.command_fix import budget

    return budget(text)


def _fix(options: argparse.Namespace) -> int:
    from whyvae.command_fix import fix_command

    if not options.target:
        _fail(options, "MODULE is missing" if options.module else "SCRIPT is missing")
    return fix_command(options)


def _fail(options: argparse.Namespace, message: str) -> NoReturn:
    options.fail(message)
    raise AssertionError  # pragma: no cover - argparse has exited


def _rules(_: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    table = Table("code", "name", "what it says")
    family = ""
    for page in pages.pages().values():
        if family and page.family != family:
            table.add_section()
        family = page.family
        table.add_row(page.code, page.name, page.sentence)
    Console().print(table)
    return HEALTHY


def _explain(options: argparse.Namespace) -> int:
    page = pages.find(options.code)
    if page is None:
        near = pages.closest(options.code)
        hint = f"did you mean {', '.join(near)}?" if near else "`whyvae rules` lists all"
        return complain(f"no diagnosis is called {options.code!r}; {hint}")
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.markdown import Markdown

        Console().print(Markdown(page.text))
    else:
        print(page.text, end="")
    return HEALTHY


def _demo(_: argparse.Namespace) -> int:
    from whyvae.demo import demo

    return HEALTHY if demo() else FINDINGS
