# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Layers, configurations and manifests are valid, and the same tree always gives the same digests."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import pathlib
import tarfile

import pytest

from tests.fleet.images import packer


def make_tree(root: pathlib.Path) -> pathlib.Path:
    (root / "etc").mkdir(parents=True)
    (root / "etc/hosts").write_text("localhost\n")
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/tool").write_bytes(b"\x7fELF" * 1000)
    (root / "usr/bin/tool").chmod(0o4755)
    os.link(root / "usr/bin/tool", root / "usr/bin/tool2")
    os.symlink("usr/bin", root / "bin")
    (root / "proc").mkdir()
    (root / "proc/version").write_text("must not travel")
    return root


def pack_all(root: pathlib.Path, target: pathlib.Path) -> packer.Layer:
    return packer.pack_layer(root, packer.walk(root), target)


def test_same_tree_made_at_another_time_gives_the_same_digests(tmp_path):
    first, second = make_tree(tmp_path / "a"), make_tree(tmp_path / "b")
    os.utime(second / "etc/hosts", (1, 1))
    one, two = pack_all(first, tmp_path / "a.gz"), pack_all(second, tmp_path / "b.gz")
    assert one == two
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    (second / "etc/hosts").write_text("other host\n")
    assert pack_all(second, tmp_path / "c.gz").digest != one.digest


def test_the_digests_are_those_of_the_file_and_of_the_tar_inside(tmp_path):
    layer = pack_all(make_tree(tmp_path / "tree"), tmp_path / "layer.gz")
    packed = (tmp_path / "layer.gz").read_bytes()
    plain = gzip.decompress(packed)  # also checks the frame's own checksum and length
    assert (layer.digest, layer.size) == ("sha256:" + hashlib.sha256(packed).hexdigest(), len(packed))
    assert (layer.diff_id, layer.unpacked) == ("sha256:" + hashlib.sha256(plain).hexdigest(), len(plain))


def test_modes_links_and_runtime_folders(tmp_path):
    pack_all(make_tree(tmp_path / "tree"), tmp_path / "layer.gz")
    with tarfile.open(tmp_path / "layer.gz") as tar:
        entries = {entry.name: entry for entry in tar.getmembers()}
    assert list(entries) == sorted(entries)
    assert entries["usr/bin/tool"].mode == 0o4755
    assert entries["usr/bin/tool2"].islnk() and entries["usr/bin/tool2"].linkname == "usr/bin/tool"
    assert entries["bin"].issym() and entries["bin"].linkname == "usr/bin"
    assert entries["proc"].isdir() and "proc/version" not in entries
    assert {entry.mtime for entry in entries.values()} == {packer.FIXED_TIME}


def test_difference_finds_what_was_added_changed_and_removed(tmp_path):
    root = make_tree(tmp_path / "tree")
    (root / "old/deep").mkdir(parents=True)
    (root / "old/deep/file").write_text("x")
    before = packer.snapshot(root)
    (root / "etc/hosts").write_text("changed\n")
    (root / "etc/new").write_text("new")
    (root / "old/deep/file").unlink()
    (root / "old/deep").rmdir()
    (root / "old").rmdir()
    (root / "bin").unlink()
    changed, gone = packer.difference(before, packer.snapshot(root))
    assert changed == ["etc/hosts", "etc/new"]
    assert gone == ["bin", "old"]


def test_a_layer_carries_parents_of_its_files_and_whiteouts(tmp_path):
    root = make_tree(tmp_path / "tree")
    (root / "etc").chmod(0o700)
    packer.pack_layer(root, ["etc/hosts"], tmp_path / "layer.gz", gone=["usr/share/doc", "bin"])
    with tarfile.open(tmp_path / "layer.gz") as tar:
        assert tar.getnames() == [".wh.bin", "etc", "etc/hosts", "usr/share/.wh.doc"]
        assert tar.getmember("etc").mode == 0o700


def test_manifest_names_configuration_and_layers_in_order(tmp_path):
    root = make_tree(tmp_path / "tree")
    lower = packer.pack_layer(root, ["etc/hosts"], tmp_path / "lower.gz")
    upper = packer.pack_layer(root, ["usr/bin/tool"], tmp_path / "upper.gz")
    image = packer.make_image([lower, upper], {"Cmd": ["sh"], "Env": ["A=b"]})
    manifest, config = json.loads(image.manifest), json.loads(image.config)
    assert (manifest["schemaVersion"], manifest["mediaType"]) == (2, "application/vnd.docker.distribution.manifest.v2+json")
    assert manifest["config"]["digest"] == "sha256:" + hashlib.sha256(image.config).hexdigest()
    assert manifest["config"]["size"] == len(image.config)
    assert [layer["digest"] for layer in manifest["layers"]] == [lower.digest, upper.digest]
    assert config["rootfs"]["diff_ids"] == [lower.diff_id, upper.diff_id]
    assert len(config["history"]) == 2 and config["config"] == {"Cmd": ["sh"], "Env": ["A=b"]}
    assert packer.make_image([lower, upper], {"Env": ["A=b"], "Cmd": ["sh"]}).digest == image.digest
    assert packer.make_image([upper, lower], {"Cmd": ["sh"], "Env": ["A=b"]}).digest != image.digest


@pytest.mark.parametrize(("path", "mark"), [("etc/passwd", "etc/.wh.passwd"), ("top", ".wh.top")])
def test_whiteout_names(path, mark):
    assert packer.whiteout(path) == mark
