"""Command line of the embedded fleet: python -m tests.fleet COMMAND."""

from __future__ import annotations

import argparse
import os
import shlex
import sys

from tests.fleet.config import DEFAULT_LAYOUT
from tests.fleet.fleet import Fleet
from tests.fleet.shell import FleetError


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fleet", description="Hosts with systemd, SSH and Docker on this machine.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("prepare", help="install what is missing, build the host images")
    up = commands.add_parser("up", help="start the hosts of a layout")
    up.add_argument("--layout", default=str(DEFAULT_LAYOUT), help="layout file (default: %(default)s)")
    commands.add_parser("down", help="remove the hosts, their volumes and the network")
    clean = commands.add_parser("clean", help="down, stop the engine, put kernel settings back")
    clean.add_argument("--caches", action="store_true", help="remove the cache folder too")
    reboot = commands.add_parser("reboot", help="restart a host")
    reboot.add_argument("host")
    ssh = commands.add_parser("ssh", help="shell or command on a host, as ops")
    ssh.add_argument("host")
    ssh.add_argument("words", nargs=argparse.REMAINDER, metavar="CMD")
    commands.add_parser("status", help="the hosts and their state")
    demo = commands.add_parser("demo", help="all of it: prepare, up, images, site.yml, and what came out")
    demo.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARG", help="further arguments of ansible-playbook")
    commands.add_parser("images", help="build the container images and push them to the services host's registry")
    options = parser.parse_args(argv)
    try:
        return _run(options, Fleet.from_environment())
    except FleetError as error:
        print(f"fleet: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("fleet: interrupted; the next `up` goes on from here.", file=sys.stderr)
        return 130


def _run(options: argparse.Namespace, fleet: Fleet) -> int:
    if options.command == "demo":
        from tests.fleet import demo

        return demo.run(fleet, options.arguments)
    if options.command == "prepare":
        fleet.prepare()
    elif options.command == "up":
        fleet.up(options.layout)
    elif options.command == "down":
        fleet.down()
    elif options.command == "clean":
        fleet.clean(caches=options.caches)
    elif options.command == "reboot":
        fleet.reboot(options.host)
    elif options.command == "images":
        fleet.images()
    elif options.command == "status":
        for host, status in fleet.status().items():
            print(f"{host:12} {status}")
    elif options.command == "ssh":
        argv = fleet.ssh_command(options.host)
        if options.words:
            argv.append(options.words[0] if len(options.words) == 1 else shlex.join(options.words))
        os.execvp(argv[0], argv)
    return 0


if __name__ == "__main__":
    sys.exit(main())
