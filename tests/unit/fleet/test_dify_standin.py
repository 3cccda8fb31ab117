# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Parts of the Dify stand-in that the recordings do not reach: archives, stored secrets, migration, settings."""

from __future__ import annotations

import io
import pathlib
import re
import subprocess
import tarfile
import threading
import zipfile

import pytest
import yaml

from tests.fleet.images.catalog import IMAGES
from tests.fleet.standins.dify import build
from tests.fleet.standins.dify.dify_standin import errors, packages, rag, security
from tests.fleet.standins.dify.dify_standin.config import Settings
from tests.fleet.standins.dify.dify_standin.files import FolderFiles
from tests.fleet.standins.dify.dify_standin.generations import GENERATIONS
from tests.fleet.standins.dify.dify_standin.http import Request, Router, reply
from tests.fleet.standins.dify.dify_standin.storage import MemoryCache, SqliteDatabase, migrate, schema_ready

releases = pytest.mark.parametrize("version", build.RELEASES)


def text_of(version: str, place: str) -> str:
    return build.release_files(version)[f"docker/{place}"].read_text(encoding="utf-8")


def test_archives_are_the_same_each_time(tmp_path: pathlib.Path) -> None:
    assert build.build_plugin(tmp_path / "a").read_bytes() == build.build_plugin(tmp_path / "b").read_bytes()
    for one, other in zip(build.build_releases(tmp_path / "a"), build.build_releases(tmp_path / "b"), strict=True):
        assert one.read_bytes() == other.read_bytes()


@releases
def test_release_archive_unpacks_as_a_release_tag_does(tmp_path: pathlib.Path, version: str) -> None:
    with tarfile.open(build.build_release(tmp_path, version)) as archive:
        names = archive.getnames()
        assert all(entry.mode == (0o755 if entry.isdir() or entry.name.endswith(".sh") else 0o644) for entry in archive)
    assert {name.split("/")[0] for name in names} == {f"dify-{version}"}
    for name in ("docker-compose.yaml", ".env.example", "nginx/docker-entrypoint.sh", "ssrf_proxy/squid.conf.template", "volumes/sandbox/conf/config.yaml"):
        assert f"dify-{version}/docker/{name}" in names
    # The layout with envs/ came with 1.14.1.
    assert (f"dify-{version}/docker/envs" in names) == (version == "1.16.1")


def test_repository_can_be_cloned_at_every_tag(tmp_path: pathlib.Path) -> None:
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.strip()

    heads = [git("--git-dir", str(build.build_repository(tmp_path / name)), "rev-parse", "1.16.1") for name in ("a", "b")]
    assert heads[0] == heads[1]
    for version in build.RELEASES:
        clone = tmp_path / version
        git("-c", "advice.detachedHead=false", "clone", "--quiet", "--branch", version, str(tmp_path / "a" / "dify.git"), str(clone))
        found = {path.relative_to(clone).as_posix(): path.read_bytes() for path in clone.rglob("*") if path.is_file() and ".git" not in path.parts}
        assert found == {place: source.read_bytes() for place, source in build.release_files(version).items()}


@releases
def test_every_mounted_file_is_in_the_release(version: str) -> None:
    """Docker would make a directory of a missing one."""
    for source in re.findall(r"^\s+- \./((?:nginx|ssrf_proxy)\S*?):", text_of(version, "docker-compose.yaml"), re.MULTILINE):
        places = [place for place in build.release_files(version) if f"{place}/".startswith(f"docker/{source}/")]
        assert places, source


@releases
def test_every_image_of_the_release_is_made(version: str) -> None:
    made = {image.name.removeprefix("library/") for image in IMAGES}
    wanted = set(re.findall(r"^\s+image: (\S+)$", text_of(version, "docker-compose.yaml"), re.MULTILINE))
    assert wanted - made == {"certbot/certbot"}
    assert f"langgenius/dify-plugin-daemon:{GENERATIONS[version].daemon}" in wanted


@releases
def test_images_know_the_version_that_they_are(version: str) -> None:
    image = next(image for image in IMAGES if image.name == f"langgenius/dify-api:{version}")
    environment = dict(entry.split("=", 1) for entry in image.full_config()["Env"])
    assert Settings.from_environment(environment).version == version


@releases
def test_defaults_of_env_example_and_compose_agree(version: str) -> None:
    compose = dict(re.findall(r"\$\{([A-Z_]+):-([^{}]*)\}", text_of(version, "docker-compose.yaml")))
    example = dict(re.findall(r"^([A-Z_]+)=(.*)$", text_of(version, ".env.example"), re.MULTILINE))
    # The public default leaves anonymous access open: 1.16.1's example does, its compose file does not.
    differing = {name for name in compose.keys() & example.keys() if compose[name] != example[name]}
    assert differing <= {"WEAVIATE_AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED", "DIFY_AGENT_SERVER_SECRET_KEY"}


@releases
def test_every_service_has_an_image_and_stands_on_others_that_are_there(version: str) -> None:
    services = yaml.safe_load(text_of(version, "docker-compose.yaml"))["services"]
    assert all("image" in service for service in services.values())
    assert {name for service in services.values() for name in service.get("depends_on", [])} <= set(services)


def test_before_1_14_1_only_a_list_of_variables_reaches_the_api() -> None:
    api = yaml.safe_load(text_of("1.9.2", "docker-compose.yaml"))["services"]["api"]
    assert "env_file" not in api
    assert "SECRET_KEY" in api["environment"]
    assert "ADMIN_API_KEY" not in api["environment"]


def test_unique_identifier_follows_content_not_packing() -> None:
    one, _declaration = packages.decode(build.plugin_package())
    assert re.fullmatch(r"langgenius/xinference:0\.0\.15@[0-9a-f]{64}", one)
    raw = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(build.plugin_package())) as old, zipfile.ZipFile(raw, "w", zipfile.ZIP_STORED) as new:
        for name in reversed(old.namelist()):
            new.writestr(name, old.read(name))
    assert packages.decode(raw.getvalue())[0] == one
    assert not packages.is_signed(raw.getvalue())
    assert packages.is_signed(build.plugin_package())
    with zipfile.ZipFile(raw, "a") as more:
        more.writestr("extra.txt", "x")
    assert packages.decode(raw.getvalue())[0] != one


def test_stored_secrets_need_the_workspaces_key_file(tmp_path: pathlib.Path) -> None:
    security.make_tenant_key(FolderFiles(tmp_path), "t")
    stored = security.encrypt(FolderFiles(tmp_path), "t", "key ✓")
    assert stored.startswith("SFlCUklEO")
    assert "key" not in stored
    assert security.decrypt(FolderFiles(tmp_path), "t", stored) == "key ✓"
    security.make_tenant_key(FolderFiles(tmp_path), "t")
    with pytest.raises(ValueError, match="key"):
        security.decrypt(FolderFiles(tmp_path), "t", stored)
    (tmp_path / "privkeys" / "t" / "private.pem").unlink()
    with pytest.raises(security.PrivateKeyMissing):
        security.decrypt(FolderFiles(tmp_path), "t", stored)


@pytest.mark.parametrize(("value", "shown"), [("", ""), ("12345678", "*" * 20), ("sk-0123456789abcdef", "sk-012************ef")])
def test_masks_are_the_recorded_ones(value: str, shown: str) -> None:
    assert security.mask(value) == shown


def test_tokens_expire_and_cannot_be_forged(monkeypatch: pytest.MonkeyPatch) -> None:
    token = security.jwt_encode({"exp": int(security.now()) + 10, "sub": "a"}, "secret")
    assert (security.jwt_decode(token, "secret") or {})["sub"] == "a"
    assert security.jwt_decode(token, "other") is None
    assert security.jwt_decode("no.token", "secret") is None
    later = security.now() + 11
    monkeypatch.setattr(security, "now", lambda: later)
    assert security.jwt_decode(token, "secret") is None


def test_ids_sort_by_time() -> None:
    ids = [security.new_id() for _count in range(200)]
    assert len(set(ids)) == 200
    assert ids[0][14] == "7"
    assert sorted(ids) == ids


def test_of_two_starting_processes_one_migrates() -> None:
    database, cache = SqliteDatabase(), MemoryCache()
    assert not schema_ready(database, "dify")
    done: list[bool] = []
    threads = [threading.Thread(target=lambda: done.append(migrate(database, cache, "dify", 0.05))) for _count in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == [False, True]
    assert schema_ready(database, "dify")


def test_a_younger_version_migrates_what_an_older_one_left() -> None:
    database, cache = SqliteDatabase(), MemoryCache()
    assert migrate(database, cache, "dify", version="1.9.2")
    assert not migrate(database, cache, "dify", version="1.9.2")
    assert (schema_ready(database, "dify", "1.9.2"), schema_ready(database, "dify")) == (True, False)
    assert migrate(database, cache, "dify")
    # An older one finds nothing to do, as nothing leads back.
    assert (schema_ready(database, "dify"), migrate(database, cache, "dify", version="1.9.2")) == (True, False)


def test_settings_follow_the_variables_of_the_real_containers(tmp_path: pathlib.Path) -> None:
    settings = Settings.from_environment({"DB_HOST": "db", "DB_PORT": "", "ADMIN_API_KEY_ENABLE": "true", "OPENDAL_FS_ROOT": str(tmp_path), "SECRET_KEY": ""})
    assert (settings.db_host, settings.db_port, settings.admin_api_key_enable) == ("db", 5432, True)
    settings.ensure_secret_key()
    again = Settings.from_environment({"OPENDAL_FS_ROOT": str(tmp_path)})
    again.ensure_secret_key()
    assert settings.secret_key == again.secret_key != ""
    assert Settings.from_environment({}).storage == "/app/api/storage"
    https = {"CONSOLE_API_URL": "https://a", "CONSOLE_WEB_URL": "https://a"}
    assert Settings.from_environment(https).secure_cookies
    assert not Settings.from_environment({**https, "COOKIE_DOMAIN": "a"}).secure_cookies


def test_routes_match_long_provider_names() -> None:
    router = Router()
    router.add("GET", "/p/<path:provider>/models", lambda: reply({}))
    found = router.find("GET", "/p/langgenius/xinference/xinference/models")
    assert found is not None
    assert found[1] == {"provider": "langgenius/xinference/xinference"}
    assert router.find("GET", "/p/a/models/more") is None
    assert router.find("POST", "/p/a/models") is None


def test_multipart_forms_are_read_bit_by_bit() -> None:
    content = bytes(range(256)) + b"\r\n--other\r\n"
    body = b'--m\r\nContent-Disposition: form-data; name="f"; filename="a b.bin"\r\nContent-Type: x/y\r\n\r\n' + content + b"\r\n--m--\r\n"
    request = Request("POST", "/", {}, {"content-type": "multipart/form-data; boundary=m"}, body)
    name, found, headers = request.files()["f"]
    assert (name, found, headers["Content-Type"]) == ("a b.bin", content, "x/y")


@pytest.mark.parametrize(
    ("rule", "pieces"),
    [
        ({"mode": "automatic"}, ["one\ntwo\nthree"]),
        ({"mode": "custom", "rules": {"segmentation": {"separator": "\n\n", "max_tokens": 50}}}, ["one\ntwo", "three"]),
        ({"mode": "custom", "rules": {"segmentation": {"separator": "\\n", "max_tokens": 1}}}, ["one", "two", "thre", "e"]),
    ],
)
def test_texts_are_split_by_their_rule(rule: dict[str, object], pieces: list[str]) -> None:
    assert rag.split("one\ntwo\n\n three\n", rule) == pieces


def test_what_is_not_copied_says_so() -> None:
    response = errors.not_implemented("GET", "/x")
    assert response.status == 501
    assert b"GET /x" in response.body
