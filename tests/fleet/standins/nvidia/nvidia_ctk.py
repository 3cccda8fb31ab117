#!/usr/bin/python3
"""STAND-IN of nvidia-ctk @VERSION@: --version, `cdi generate`, and `runtime configure --runtime=docker` as upstream does it.

It rewrites the whole of daemon.json: keys sorted, four spaces, no newline at the end; runtimes.nvidia is replaced
outright. What it does not know it refuses with exit status 1, as "not answered".
"""

import json
import os
import sys

VERSION = "@VERSION@"
FLAGS = {"--dry-run": False, "--nvidia-set-as-default": False, "--set-as-default": False}
VALUES = {"--runtime": "docker", "--config": "/etc/docker/daemon.json", "--nvidia-runtime-path": "nvidia-container-runtime", "--nvidia-runtime-name": "nvidia"}


def refuse(words):
    print("STAND-IN of nvidia-ctk: '{}' is not answered (501)".format(" ".join(words)), file=sys.stderr)
    return 1


def configure(words):
    flags, values = dict(FLAGS), dict(VALUES)
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if name in flags:
            flags[name] = value != "false"
        elif name in values and (equals or rest):
            values[name] = value if equals else rest.pop(0)
        else:
            return refuse(["runtime", "configure", word])
    if values["--runtime"] != "docker":
        return refuse(["runtime", "configure", "--runtime=" + values["--runtime"]])
    path = os.path.realpath(values["--config"])
    config = {}
    if os.path.exists(path):
        with open(path, encoding="utf-8") as stream:
            text = stream.read()
        if not text.strip():
            print("unable to load config for runtime docker: EOF", file=sys.stderr)
            return 1
        try:
            config = json.loads(text)
        except ValueError as error:
            print("unable to load config for runtime docker: {}".format(error), file=sys.stderr)
            return 1
    runtimes = dict(config.get("runtimes") or {})
    runtimes[values["--nvidia-runtime-name"]] = {"args": [], "path": values["--nvidia-runtime-path"]}
    config["runtimes"] = runtimes
    if flags["--nvidia-set-as-default"] or flags["--set-as-default"]:
        config["default-runtime"] = values["--nvidia-runtime-name"]
    written = json.dumps(config, indent=4, sort_keys=True)
    if flags["--dry-run"]:
        print(written)
        return 0
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(written)
    print("Wrote updated config to {}".format(path), file=sys.stderr)
    print("It is recommended that docker daemon be restarted.", file=sys.stderr)
    return 0


def generate(words):
    """A CDI specification with a device for each GPU of the profile, and library names that carry its driver's version."""
    path = ""
    rest = list(words)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if name != "--output" or not (equals or rest):
            return refuse(["cdi", "generate", name])
        path = value if equals else rest.pop(0)
    with open("/etc/llmops-standin/nvidia.json", encoding="utf-8") as stream:
        profile = json.load(stream)
    names = [str(gpu["fields"]["index"]) for gpu in profile["gpus"]] + [gpu["fields"]["uuid"] for gpu in profile["gpus"]] + ["all"]
    library = "/usr/lib/x86_64-linux-gnu/libcuda.so." + profile["driver_version"]
    lines = ["# STAND-IN", "cdiVersion: 0.5.0", "kind: nvidia.com/gpu", "devices:"]
    lines += ["- name: \"{}\"".format(name) for name in names]
    lines += ["containerEdits:", "  mounts:", "  - hostPath: " + library, "    containerPath: " + library]
    text = "\n".join(lines) + "\n"
    if not path:
        sys.stdout.write(text)
        return 0
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(text)
    return 0


def main(words):
    if words in (["--version"], ["-v"]):
        print("NVIDIA Container Toolkit CLI version {}".format(VERSION))
        return 0
    if words[:2] == ["runtime", "configure"]:
        return configure(words[2:])
    if words[:2] == ["cdi", "generate"]:
        return generate(words[2:])
    return refuse(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
