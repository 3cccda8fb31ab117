# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import json
import zipfile

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _bundle as bundle
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _bundle_apt as apt
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _bundle_build as build
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _bundle_compose as compose
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _bundle_images as images
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _bundle_python as python
from ansible_collections.llmops.dify_xinference.plugins.module_utils._weights_declared import weights_in_bundle
from ansible_collections.llmops.dify_xinference.plugins.module_utils._weights_http import Answer, NoAnswer, Web

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


# The format


@pytest.fixture()
def made(tmp_path):
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "one").write_bytes(b"one" * 1000)
    (tmp_path / "files" / "two").write_bytes(b"two")
    bundle.write(str(tmp_path), {"format": bundle.FORMAT, "files": bundle.describe(str(tmp_path))})
    return tmp_path


def test_a_whole_bundle_has_no_problems(made):
    assert bundle.compare(str(made), bundle.read(str(made))) == bundle.Problems([], [], [])


def test_one_flipped_byte_is_found_and_named(made):
    data = bytearray((made / "files" / "one").read_bytes())
    data[1234] ^= 1
    (made / "files" / "one").write_bytes(data)
    found = bundle.compare(str(made), bundle.read(str(made)))
    assert found.damaged == ["files/one"]
    assert "files/one is damaged" in found.sentences()[0]
    assert bundle.compare(str(made), bundle.read(str(made)), whole=False).damaged == [], "sizes alone cannot tell"


def test_missing_short_and_unknown_files_are_told_apart(made):
    (made / "files" / "one").unlink()
    (made / "files" / "two").write_bytes(b"tw")
    (made / "files" / "three").write_bytes(b"")
    assert bundle.compare(str(made), bundle.read(str(made)), whole=False) == bundle.Problems(["files/one"], ["files/two"], ["files/three"])


@pytest.mark.parametrize("name", [bundle.MANIFEST, bundle.CHECKSUM])
def test_a_damaged_list_vouches_for_nothing(made, name):
    data = bytearray((made / name).read_bytes())
    data[10] ^= 1
    (made / name).write_bytes(data)
    with pytest.raises(bundle.BundleError, match="damaged"):
        bundle.read(str(made))


def test_a_list_that_reaches_out_of_the_bundle_is_refused(made):
    bundle.write(str(made), {"format": bundle.FORMAT, "files": {"../etc/passwd": {"size": 1, "sha256": "0"}}})
    with pytest.raises(bundle.BundleError, match="outside"):
        bundle.read(str(made))


# Debian packages

INDEX = """\
Package: engine
Version: 5:29.8.0-1
Depends: cli (>= 5:20), libx1 (>= 1.2~) | libx2, base-files, virtual-fs
Filename: pool/engine_29.8.0-1_amd64.deb
Size: 10
SHA256: aa
Description: one
 two lines

Package: engine
Version: 5:9.1.0-1
Filename: pool/engine_9.1.0-1_amd64.deb
Size: 10
SHA256: ab

Package: cli
Version: 5:29.8.0-1
Depends: libc6 (>= 2.3)
Filename: pool/cli.deb
Size: 1
SHA256: ac

Package: libx1
Version: 1.2-1
Filename: pool/libx1.deb
Size: 1
SHA256: ad

Package: libc6
Version: 2.36
Filename: pool/libc6.deb
Size: 1
SHA256: ae

Package: base-files
Version: 12
Essential: yes
Pre-Depends: libc6
Filename: pool/base.deb
Size: 1
SHA256: af

Package: realfs
Version: 1
Provides: virtual-fs
Filename: pool/realfs.deb
Size: 1
SHA256: b0
"""


def test_the_closure_has_what_a_minimal_system_lacks():
    found = apt.closure(["engine"], apt.parse_index(INDEX, "http://a/debian"))
    assert [(package.name, package.version) for package in found] == [
        ("cli", "5:29.8.0-1"),
        ("engine", "5:29.8.0-1"),
        ("libx1", "1.2-1"),
        ("realfs", "1"),
    ]
    assert found[1].url == "http://a/debian/pool/engine_29.8.0-1_amd64.deb"
    text = apt.index_of(found)
    assert "Filename: ./engine_29.8.0-1_amd64.deb\n" in text
    assert [package.stanza["SHA256"] for package in apt.parse_index(text, "http://b")] == [package.sha256 for package in found]


def stanzas(*packages):
    return apt.parse_index(
        "\n\n".join(
            f"{text}\nVersion: 1\nArchitecture: amd64\nFilename: pool/{number}.deb\nSize: 1\nSHA256: {number:064x}" for number, text in enumerate(packages)
        ),
        "http://a",
    )


def names_of(wanted, packages):
    return [package.name for package in apt.closure(wanted, packages)]


def test_an_alternative_that_is_there_already_brings_nothing_else():
    packages = stanzas("Package: engine\nDepends: b, a | b", "Package: a", "Package: b")
    assert names_of(["engine"], packages) == ["b", "engine"]
    assert names_of(["engine"], stanzas("Package: engine\nDepends: a | b", "Package: a", "Package: b\nEssential: yes")) == ["engine"]


def test_what_every_host_has_also_serves_under_the_names_it_provides():
    packages = stanzas("Package: engine\nDepends: awk", "Package: mawk\nPriority: required\nProvides: awk\nDepends: libm", "Package: libm")
    assert names_of(["engine"], packages) == ["engine"]


def test_packages_that_need_each_other_under_other_names_come_once():
    packages = stanzas("Package: engine\nProvides: runtime\nDepends: tool", "Package: cli\nProvides: tool\nDepends: runtime")
    assert names_of(["engine"], packages) == ["cli", "engine"]


def test_a_version_can_be_asked_for_and_a_missing_package_is_named():
    packages = apt.parse_index(INDEX, "http://a")
    assert [package.version for package in apt.closure(["engine=5:9.1.0-1"], packages)] == ["5:9.1.0-1"]
    with pytest.raises(bundle.BundleError, match=r"virtual-fs, which engine 5:29.8.0-1 needs"):
        apt.closure(["engine"], [package for package in packages if package.name != "realfs"])


@pytest.mark.parametrize(
    ("smaller", "larger"),
    [
        ("1.0~rc1", "1.0"),
        ("1.9", "1.10"),
        ("2.0", "1:1.0"),
        ("1.0-1", "1.0-1+b1"),
        ("1.0", "1.0a"),
        ("1.0a", "1.0+"),
        ("1.18.0~rc.1-1", "1.18.0-1"),
        ("1", "1.1"),
    ],
)
def test_versions_are_ordered_as_dpkg_orders_them(smaller, larger):
    assert (apt.compare_versions(smaller, larger), apt.compare_versions(larger, smaller), apt.compare_versions(larger, larger)) == (-1, 1, 0)


# Compose


def test_the_images_of_a_compose_file_are_those_that_its_profiles_start():
    env = compose.parse_env("DB_TYPE=postgresql\nTAG='15'\nCOMPOSE_PROFILES=${VECTOR_STORE:-weaviate},${DB_TYPE:-x}  # both\n")
    services = {
        "db": {"image": "postgres:${TAG}-alpine", "profiles": ["postgresql"]},
        "vector": {"image": "weaviate:${WEAVIATE:-1.27}", "profiles": ["", "weaviate"]},
        "certbot": {"image": "certbot/certbot", "profiles": ["certbot"]},
        "api": {"image": "${REGISTRY:-${OTHER:-langgenius}}/dify-api:1"},
        "built": {"build": "."},
    }
    assert compose.images({"services": services}, env) == ["langgenius/dify-api:1", "postgres:15-alpine", "weaviate:1.27"]
    with pytest.raises(bundle.BundleError, match="wants a value for NEEDED"):
        compose.interpolate("${NEEDED:?say it}", {})


# Python


def test_an_index_of_files_and_a_lock_of_hashes():
    files = {"dify_plugin-0.4.1-py3-none-any.whl": "aa", "PyYAML-6.0-cp312-cp312-manylinux_2_28_x86_64.whl": "bb", "dify_plugin-0.4.2.tar.gz": "cc"}
    pages = python.pages(files)
    assert sorted(pages) == ["simple/dify-plugin/index.html", "simple/index.html", "simple/pyyaml/index.html"]
    assert 'href="../../files/PyYAML-6.0-cp312-cp312-manylinux_2_28_x86_64.whl#sha256=bb"' in pages["simple/pyyaml/index.html"]
    assert python.locked_requirements(files).splitlines()[0] == "dify-plugin==0.4.1 --hash=sha256:aa"


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("requirements.txt", "dify_plugin>=0.4,<0.5  # sdk\n# no\n-r other\nopenai~=1.0\n", ["dify_plugin>=0.4,<0.5", "openai~=1.0"]),
        (
            "pyproject.toml",
            '[project]\nname = "x"\ndependencies = [\n  "dify-plugin>=0.4",\n  "httpx[socks]",\n]\n[tool.uv]\n',
            ["dify-plugin>=0.4", "httpx[socks]"],
        ),
        ("README.md", "none", []),
    ],
)
def test_what_a_plugin_needs_is_read_out_of_its_package(tmp_path, name, text, wanted):
    with zipfile.ZipFile(tmp_path / "a.difypkg", "w") as archive:
        archive.writestr(name, text)
    assert python.requirements_of_plugin(str(tmp_path / "a.difypkg")) == wanted


# Images


class Body:
    def __init__(self, data):
        self.data = data

    def read(self, size=-1):
        part, self.data = (self.data, b"") if size < 0 else (self.data[:size], self.data[size:])
        return part

    def close(self):
        pass


class Upstream:
    """A registry that is played: blobs by digest, tags, a token server, and a connection that breaks after so many bytes."""

    def __init__(self, tokens=False):
        self.content, self.tags, self.tokens = {}, {}, tokens
        self.asked, self.breaks, self.gone = [], {}, set()

    def add(self, name, layers, index=False):
        config = json.dumps({"of": name}).encode()
        for data in [config, *layers]:
            self.content[digest(data)] = data
        entries = [{"digest": digest(data), "size": len(data)} for data in [config, *layers]]
        manifest = json.dumps({"mediaType": MANIFEST, "config": entries[0], "layers": entries[1:]}).encode()
        self.content[digest(manifest)] = manifest
        if index:
            listed = [{"digest": digest(manifest), "platform": {"os": "linux", "architecture": "amd64"}}]
            manifest = json.dumps({"manifests": listed}).encode()
            self.content[digest(manifest)] = manifest
        self.tags[name] = digest(manifest)
        return digest(manifest)

    def __call__(self, url, headers, method):
        self.asked.append((method, url, headers.get("Authorization", "")))
        path = url.partition("//")[2].partition("/")[2]
        if path.startswith("token"):
            return Answer(200, {}, Body(b'{"token": "t0ken"}'))
        if self.tokens and headers.get("Authorization") != "Bearer t0ken" and "cdn" not in url:
            return Answer(401, {"WWW-Authenticate": 'Bearer realm="http://auth/token",service="r"'}, Body(b"{}"))
        if path == "v2/":
            return Answer(200, {}, Body(b"{}"))
        repository, _slash, rest = path[3:].rpartition("/manifests/") if "/manifests/" in path else path[3:].rpartition("/blobs/")
        wanted = self.tags.get(f"{repository}:{rest}", rest)
        data = self.content.get(wanted)
        if data is None or wanted in self.gone:
            return Answer(404, {}, Body(b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}'))
        first = int(headers.get("Range", "bytes=0-")[6:-1])
        status, extra = (206, {"Content-Range": f"bytes {first}-{len(data) - 1}/{len(data)}"}) if first else (200, {})
        body = data[first:]
        if wanted in self.breaks:
            body = body[: self.breaks.pop(wanted)]
        return Answer(status, {"Docker-Content-Digest": wanted, "Content-Length": str(len(data) - first), **extra}, Body(b"" if method == "HEAD" else body))


def builder(path, upstream, lock=None, retries=0, **more):
    web = Web(upstream, retries=retries, sleep=lambda seconds: None)
    return build.Builder(str(path), {} if lock is None else lock, web, images.Registry(web, "http://hub"), lambda argv, timeout: (127, "", ""), **more)


def bring(path, upstream, names, lock=None, **more):
    made = builder(path, upstream, lock, **more)
    files = made.bring(made.images(names))
    return made, files


def test_images_lie_in_the_oci_layout_with_the_digests_they_have_upstream(tmp_path):
    upstream = Upstream(tokens=True)
    one = upstream.add("library/busybox:1", [b"layer" * 100], index=True)
    two = upstream.add("acme/app:2", [b"layer" * 100, b"own"])
    made, files = bring(tmp_path, upstream, ["busybox:1", "acme/app:2"])
    assert made.problems == []
    assert {path: entry["sha256"] for path, entry in files.items() if "blobs" in path} == {
        path: path.rpartition("/")[2] for path in files if "blobs" in path
    }, "a blob is called by its content"
    index = json.loads((tmp_path / "images" / "index.json").read_text())
    assert {entry["annotations"][images.NAME]: entry["digest"] for entry in index["manifests"]} == {"library/busybox:1": one, "acme/app:2": two}
    assert {entry["mediaType"] for entry in index["manifests"]} == {MANIFEST, "application/vnd.oci.image.index.v1+json"}
    assert not any(token for _method, url, token in upstream.asked if "auth" in url)


def test_the_second_run_fetches_nothing_and_changes_nothing(tmp_path):
    upstream = Upstream()
    upstream.add("library/busybox:1", [b"layer" * 100])
    first, files = bring(tmp_path, upstream, ["busybox:1"])
    upstream.asked.clear()
    second, again = bring(tmp_path, upstream, ["busybox:1"], first.lock)
    assert (second.fetched, second.added, again) == ([], [], files)
    assert [method for method, url, _token in upstream.asked if not url.endswith("/v2/")] == ["HEAD"], "only what the tag means now is asked"


def test_a_tag_that_moved_is_reported_and_not_followed(tmp_path):
    upstream = Upstream()
    old = upstream.add("library/busybox:1", [b"old"])
    lock = bring(tmp_path, upstream, ["busybox:1"])[0].lock
    new = upstream.add("library/busybox:1", [b"new"])
    made, files = bring(tmp_path, upstream, ["busybox:1"], lock)
    assert (made.lock["images"]["busybox:1"], made.fetched) == (old, [])
    assert old in made.drift[0] and new in made.drift[0]
    followed, _files = bring(tmp_path, upstream, ["busybox:1"], {})
    assert followed.lock["images"]["busybox:1"] == new
    left = {path.rpartition("/")[2] for path in bundle.files_of(str(tmp_path)) if "blobs" in path}
    assert digest(b"old")[7:] not in left, "what nobody asks for goes"


def test_a_download_that_breaks_off_goes_on_at_its_byte(tmp_path):
    upstream = Upstream()
    layer = b"0123456789" * 1000
    upstream.add("library/busybox:1", [layer])
    upstream.breaks[digest(layer)] = 4000
    first, files = bring(tmp_path, upstream, ["busybox:1"])
    assert files == {} and "4000 bytes of it are kept" in first.problems[0]
    again, files = bring(tmp_path, upstream, ["busybox:1"], first.lock)
    assert (again.problems, again.resumed) == ([], 4000)
    assert again.bytes < len(layer), "the rest alone travelled"
    assert files["images/blobs/sha256/" + digest(layer)[7:]]["size"] == len(layer)


def test_a_file_that_was_damaged_since_comes_again(tmp_path):
    upstream = Upstream()
    upstream.add("library/busybox:1", [b"layer" * 100])
    lock = bring(tmp_path, upstream, ["busybox:1"])[0].lock
    blob = tmp_path / "images" / "blobs" / "sha256" / digest(b"layer" * 100)[7:]
    blob.write_bytes(b"LAYER" + blob.read_bytes()[5:])
    made, _files = bring(tmp_path, upstream, ["busybox:1"], lock)
    assert made.fetched == [f"images/blobs/sha256/{blob.name}"]


def test_one_image_that_does_not_come_is_named_with_what_is_wrong(tmp_path):
    upstream = Upstream()
    upstream.add("library/busybox:1", [b"layer"])
    made = builder(tmp_path, upstream)
    made.images(["busybox:1", "acme/gone:3", "quay.io/acme/app:1"])
    assert [problem.split(":")[0] for problem in made.problems] == ["acme/gone", "quay.io/acme/app"]
    assert "404" in made.problems[0] and "Docker Hub" in made.problems[1]


def test_check_mode_asks_and_writes_nothing(tmp_path):
    upstream = Upstream()
    upstream.add("library/busybox:1", [b"layer"])
    made, files = bring(tmp_path / "none", upstream, ["busybox:1"], check=True)
    assert (files, made.added, len(made.fetched)) == ({}, ["images: busybox:1"], 5)
    assert not (tmp_path / "none").exists()


def test_without_upstream_a_lock_and_what_is_there_do(tmp_path):
    upstream = Upstream()
    upstream.add("library/busybox:1", [b"layer"])
    lock = bring(tmp_path, upstream, ["busybox:1"])[0].lock

    def nobody(url, headers, method):
        raise NoAnswer("refused")

    made, files = bring(tmp_path, nobody, ["busybox:1"], lock)
    assert (made.problems, made.fetched) == ([], [])
    assert files and "does not answer" in made.drift[0]


# Weights


def test_declared_weights_are_taken_from_the_bundle_where_it_has_them():
    files = [{"path": "config.json", "size": 3, "sha256": "aa"}]
    bundled = [{"source": "huggingface", "repo": "acme/m", "revision": "main", "allow": [], "ignore": [], "folder": "f", "files": files}]
    declared = [{"name": "m", "source": "huggingface", "repo": "acme/m"}, {"name": "other", "source": "huggingface", "repo": "acme/m", "revision": "v2"}]
    found = weights_in_bundle(declared, bundled, "http://b/weights")
    assert found == [{"name": "m", "source": "http", "url": "http://b/weights/f", "files": files}, declared[1]]
    assert weights_in_bundle(declared, [], "") == declared


def test_small_files_are_carried_together_and_large_ones_alone():
    sizes = {"images/layer": 200_000_000, "images/config": 4_000, "files/edge": 16 * 1024 * 1024}
    manifest = {"files": {name: {"size": size} for name, size in sizes.items()}}
    assert bundle.small_of(manifest, sizes) == ["images/config", "files/edge"]
