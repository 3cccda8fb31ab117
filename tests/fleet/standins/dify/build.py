# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Builds what the fleet's services host serves of Dify: the releases as archives and as a git repository,
and the Xinference plugin, all stand-ins.

They are deterministic: the same sources give the same bytes, so that checksums can be pinned and caches hit.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from typing import Any

from tests.fleet.standins.dify.dify_standin import VERSION, packages

HERE = pathlib.Path(__file__).resolve().parent
PLUGIN_VERSION = "0.0.15"
# The releases whose archives and images there are, oldest first.
RELEASES = ("1.9.2", VERSION)
_EXECUTABLE = (".sh",)
_NOTE = (
    "This package is a stand-in for the plugin langgenius/xinference, made for the test fleet of llmops.dify_xinference.\n"
    "It holds the plugin's declaration only; what the plugin does is built into the plugin daemon's stand-in.\n"
)


def release_files(version: str = VERSION) -> dict[str, pathlib.Path]:
    """Place in the release -> source. An older release is the newest one's files under its own, without the layout it does not have yet."""
    newest = _files(HERE / "release")
    if version == VERSION:
        return newest
    shared = {place: source for place, source in newest.items() if not place.startswith("docker/envs/")}
    return dict(sorted({**shared, **_files(HERE / f"release-{version}")}.items()))


def _files(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}


def build_release(out_dir: pathlib.Path | str, version: str = VERSION) -> pathlib.Path:
    """``dify-<version>.tar.gz`` as a download of the release tag looks (top folder ``dify-<version>/``); returns its path.

    :param version: one of ``RELEASES``.
    """
    target = pathlib.Path(out_dir, f"dify-{version}.tar.gz")
    target.parent.mkdir(parents=True, exist_ok=True)
    files = release_files(version)
    folders = {str(parent) for place in files for parent in pathlib.PurePosixPath(place).parents}
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for place in sorted([*files, *folders]):
            entry = tarfile.TarInfo(str(pathlib.PurePosixPath(f"dify-{version}", place)))
            executable = place in folders or place.endswith(_EXECUTABLE)
            entry.mode = 0o755 if executable else 0o644
            if place in folders:
                entry.type = tarfile.DIRTYPE
                archive.addfile(entry)
                continue
            content = files[place].read_bytes()
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    target.write_bytes(gzip.compress(raw.getvalue(), mtime=0))
    return target


def build_releases(out_dir: pathlib.Path | str) -> list[pathlib.Path]:
    """The archives of all ``RELEASES``."""
    return [build_release(out_dir, version) for version in RELEASES]


def build_repository(out_dir: pathlib.Path | str) -> pathlib.Path:
    """``dify.git`` with the releases as tags ``<version>``, for any web server (git's plain HTTP); returns its path.

    The same sources give the same commits. Raises CalledProcessError when git fails.
    """
    target = pathlib.Path(out_dir, "dify.git")
    when = "2026-01-01T00:00:00Z"
    person = {"NAME": "stand-in", "EMAIL": "stand-in@example.com", "DATE": when}
    names = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in person.items()}
    # Neither the caller's repository nor the caller's settings are of any interest here.
    env = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    env.update(names, GIT_CONFIG_GLOBAL=os.devnull, GIT_CONFIG_NOSYSTEM="1")
    with tempfile.TemporaryDirectory() as scratch:
        tree, bare = pathlib.Path(scratch, "tree"), pathlib.Path(scratch, "dify.git")
        tree.mkdir()

        def git(*arguments: str) -> None:
            subprocess.run(["git", *arguments], cwd=tree, env=env, check=True, capture_output=True)

        git("init", "--quiet", "--initial-branch=main")
        for version in RELEASES:
            for path in tree.iterdir():
                if path.name != ".git":
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            for place, source in release_files(version).items():
                pathlib.Path(tree, place).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, pathlib.Path(tree, place))
            git("add", "--all", "--force")
            git("commit", "--quiet", "--message", f"Stand-in of Dify {version}")
            git("tag", version)
        git("clone", "--quiet", "--bare", str(tree), str(bare))
        git("--git-dir", str(bare), "update-server-info")
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(bare, target)
    return target


def plugin_package(version: str = PLUGIN_VERSION, secret_url: bool = False, signed: bool = True) -> bytes:
    """The bytes of the plugin package.

    :param version: the version it says it has.
    :param secret_url: ``server_url`` as a secret field, as plugins up to 0.0.4 have it.
    :param signed: with the mark that the daemon's stand-in takes for the marketplace's signature.
    """
    manifest: dict[str, Any] = json.loads((HERE / "plugin" / "manifest.json").read_text(encoding="utf-8"))
    provider: dict[str, Any] = json.loads((HERE / "dify_standin" / "xinference_provider.json").read_text(encoding="utf-8"))
    manifest["version"] = version
    if secret_url:
        for form in provider["model_credential_schema"]["credential_form_schemas"]:
            if form["variable"] == "server_url":
                form["type"] = "secret-input"
    files = {
        "README.md": _NOTE,
        "_assets/icon_s_en.svg": '<svg xmlns="http://www.w3.org/2000/svg" width="16" height="16"><title>stand-in</title></svg>\n',
        # JSON is YAML: the daemon's stand-in reads it without a YAML library.
        "manifest.yaml": json.dumps(manifest, ensure_ascii=False, indent=2) + "\n",
        "provider/xinference.yaml": json.dumps(provider, ensure_ascii=False, indent=2) + "\n",
    }
    comment = packages.signature(_zip(files, b"")) if signed else b""
    return _zip(files, comment)


def endpoint_package(version: str = "0.0.1") -> bytes:
    """A plugin with another provider, ``example/endpoint/endpoint``: fields by model type, optional ones that Dify fills in, a switch."""
    manifest: dict[str, Any] = json.loads((HERE / "plugin" / "manifest.json").read_text(encoding="utf-8"))
    manifest.update(version=version, author="example", name="endpoint", plugins={"models": ["provider/endpoint.yaml"]})
    shown = [{"variable": "__model_type", "value": "llm"}]
    forms = [
        {"variable": "endpoint_url", "type": "text-input", "required": True},
        {"variable": "api_key", "type": "secret-input", "required": False},
        {"variable": "context_size", "type": "text-input", "required": True, "default": "4096", "show_on": shown},
        {"variable": "mode", "type": "select", "default": "chat", "options": [{"value": "chat"}, {"value": "completion"}], "show_on": shown},
        {"variable": "stream", "type": "switch", "required": False, "show_on": shown},
        {"variable": "delimiter", "type": "text-input", "default": ";", "show_on": [*shown, {"variable": "mode", "value": "completion"}]},
    ]
    provider = {
        "provider": "endpoint",
        "label": {"en_US": "Endpoint"},
        "supported_model_types": ["llm"],
        "configurate_methods": ["customizable-model"],
        "model_credential_schema": {"model": {"label": {"en_US": "Name"}}, "credential_form_schemas": forms},
    }
    files = {"manifest.yaml": json.dumps(manifest, indent=2) + "\n", "provider/endpoint.yaml": json.dumps(provider, indent=2) + "\n"}
    return _zip(files, packages.signature(_zip(files, b"")))


def _zip(files: dict[str, str], comment: bytes) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), text)
        archive.comment = comment
    return raw.getvalue()


def build_plugin(out_dir: pathlib.Path | str) -> pathlib.Path:
    """``langgenius-xinference_<version>.difypkg``; returns its path."""
    target = pathlib.Path(out_dir, f"langgenius-xinference_{PLUGIN_VERSION}.difypkg")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(plugin_package())
    return target


def main(arguments: list[str]) -> int:
    """``python -m tests.fleet.standins.dify.build <folder>`` writes them all and says where."""
    if len(arguments) != 1:
        print("usage: python -m tests.fleet.standins.dify.build <folder>", file=sys.stderr)
        return 2
    for path in (*build_releases(arguments[0]), build_repository(arguments[0]), build_plugin(arguments[0])):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
