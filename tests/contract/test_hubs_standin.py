# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The real clients of both hubs, huggingface_hub and modelscope, against the stand-in: what satisfies them is close enough.

They are part of the environment that the tests with a real Xinference use.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import typing as t

import pytest

from tests.contract.hubs import Hubs
from tests.contract.xinference_server import environment

pytestmark = pytest.mark.real_xinference


@pytest.fixture()
def hubs() -> t.Iterator[Hubs]:
    running = Hubs()
    yield running
    running.close()


def client(code: str, folder: pathlib.Path, hubs: Hubs, **variables: str) -> subprocess.CompletedProcess[str]:
    python = environment.ensure().programs / "python"
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "MODELSCOPE_"))}
    clean.update(HF_ENDPOINT=hubs.url, HF_HOME=str(folder / "hf"), HF_HUB_DISABLE_PROGRESS_BARS="1", HF_HUB_DISABLE_XET="1")
    clean.update(MODELSCOPE_CACHE=str(folder / "ms"), HOME=str(folder), **variables)
    return subprocess.run([str(python), "-c", code], env=clean, capture_output=True, text=True, timeout=120, check=False)


def content(folder: pathlib.Path) -> dict[str, bytes]:
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {path: data for path, data in found.items() if not path.startswith((".cache/", "._", ".msc", ".mv", ".mdl"))}


def test_huggingface_hub(hubs: Hubs, tmp_path: pathlib.Path) -> None:
    out = tmp_path / "out"
    code = f"""
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
snapshot_download("acme/tiny", local_dir={str(out)!r})
snapshot_download("acme/many", local_dir={str(tmp_path / "many")!r}, allow_patterns=["part-10*"])
info = HfApi().model_info("acme/tiny", files_metadata=True)
print(info.sha, sorted((entry.rfilename, entry.size, entry.blob_id, entry.lfs and entry.lfs.sha256) for entry in info.siblings)[4])
cases = (("acme/gated", "main", GatedRepoError), ("acme/none", "main", RepositoryNotFoundError), ("acme/tiny", "no", RevisionNotFoundError))
for repo, revision, error in cases:
    try:
        snapshot_download(repo, revision=revision, local_dir={str(tmp_path)!r} + "/" + error.__name__, max_workers=1)
    except error as problem:
        print(type(problem).__name__)
snapshot_download("acme/gated", local_dir={str(tmp_path / "gated")!r}, token={hubs.token!r})
"""
    done = client(code, tmp_path, hubs)
    assert done.returncode == 0, done.stderr[-2000:]
    assert content(out) == hubs.files
    assert content(tmp_path / "gated") == hubs.files
    assert len(content(tmp_path / "many")) == 100, "the second page of the tree too"
    assert done.stdout.split("\n")[1:4] == ["GatedRepoError", "RepositoryNotFoundError", "RevisionNotFoundError"]
    assert hubs.code.sha256(hubs.files["model-00001-of-00002.safetensors"]) in done.stdout
    assert not [entry for entry in hubs.log if entry["status"] == 501]


def test_modelscope(hubs: Hubs, tmp_path: pathlib.Path) -> None:
    out = tmp_path / "out"
    code = f"""
from modelscope import snapshot_download
snapshot_download("acme/tiny", local_dir={str(out)!r}, endpoint={hubs.url!r})
try:
    snapshot_download("acme/none", local_dir={str(tmp_path / "no")!r}, endpoint={hubs.url!r})
except Exception as problem:
    print("refused:", getattr(getattr(problem, "response", None), "status_code", problem))
"""
    done = client(code, tmp_path, hubs)
    assert done.returncode == 0, done.stderr[-2000:]
    assert content(out) == hubs.files
    assert "refused: 404" in done.stdout
    # What the client tries and does without: a faster download inside the provider's own network.
    assert {entry["path"] for entry in hubs.log if entry["status"] == 501} <= {"/api/v1/repos/internalAccelerationInfo"}
