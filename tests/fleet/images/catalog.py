# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which images there are: name, tag, the steps that make their layers, and how a container of them starts.

Pure data and its identity. A *step* makes one layer on top of the layers before it; images that begin with the same
steps share those layers, on disk, in the registry and in every engine. What is real and what is a stand-in is written
in each image's label.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import typing as t

FILES = pathlib.Path(__file__).with_name("files")
DIFY_STANDIN = pathlib.Path(__file__).resolve().parents[1] / "standins" / "dify" / "dify_standin"
KIND_LABEL = "llmops.fleet.image"  # what is real in it

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclasses.dataclass(frozen=True)
class Step:
    """One layer.

    ``action``: ``debian`` (the tree all share), ``packages`` (apt), ``xinference`` (pip), ``busybox`` (a tree of its own).
    ``files``: (place in the image, file or folder of this repository, mode).
    ``shell``: commands run by sh in the tree after packages and files are there.
    """

    name: str
    action: str = "packages"
    packages: t.Tuple[str, ...] = ()
    files: t.Tuple[t.Tuple[str, pathlib.Path, int], ...] = ()
    shell: str = ""
    before: str = ""  # the same, before the packages are installed
    release: str = ""  # of Xinference, where it is not the usual one

    def identity(self, further: t.Any = None) -> t.Dict[str, t.Any]:
        """Return what the layer's content follows from; ``further`` is what its action adds to that."""
        contents = [(place, mode, _fingerprint(source)) for place, source, mode in self.files]
        return {
            "action": self.action,
            "packages": self.packages,
            "files": contents,
            "shell": self.shell,
            "before": self.before,
            "further": further,
        }


@dataclasses.dataclass(frozen=True)
class ImageSpec:
    """One image: repository (Docker Hub's name), tag, steps from the lowest up, Docker's container configuration."""

    repository: str
    tag: str
    kind: str
    steps: t.Tuple[Step, ...]
    config: t.Mapping[str, t.Any]
    on_demand: bool = False  # built when it is asked for by name only

    @property
    def name(self) -> str:
        return f"{self.repository}:{self.tag}"

    def full_config(self) -> t.Dict[str, t.Any]:
        config = dict(self.config)
        config["Env"] = [f"PATH={_PATH}", *config.get("Env", [])] if not _has_path(config) else config["Env"]
        config["Labels"] = {KIND_LABEL: self.kind, **config.get("Labels", {})}
        return config


def _has_path(config: t.Mapping[str, t.Any]) -> bool:
    return any(entry.startswith("PATH=") for entry in config.get("Env", []))


def sources(folder: pathlib.Path) -> t.List[pathlib.Path]:
    """Return the files of a source folder that belong into an image, sorted."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if "__pycache__" not in path.parts and path.suffix != ".pyc")


def _fingerprint(source: pathlib.Path) -> t.Any:
    if source.is_dir():
        return [(str(path.relative_to(source)), hashlib.sha256(path.read_bytes()).hexdigest()) for path in sources(source)]
    return hashlib.sha256(source.read_bytes()).hexdigest()


def key_of(chain: t.Sequence[t.Mapping[str, t.Any]]) -> str:
    """Return the cache key of the last layer of a chain of step identities."""
    return hashlib.sha256(json.dumps(chain, sort_keys=True).encode()).hexdigest()[:24]


DEBIAN = Step("debian", action="debian")

POSTGRES = Step(
    "postgres",
    packages=("postgresql-15",),
    # No cluster is made at installation: the entry point makes one in the volume.
    before="mkdir -p /etc/postgresql-common && echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf",
    files=(("usr/local/bin/docker-entrypoint.sh", FILES / "postgres-entrypoint.sh", 0o755),),
    shell=(
        "mkdir -p /docker-entrypoint-initdb.d /var/lib/postgresql/data; chown postgres:postgres /var/lib/postgresql/data;"
        "rm -rf /usr/lib/postgresql/15/lib/bitcode /usr/lib/llvm-* /usr/lib/x86_64-linux-gnu/libLLVM-*"
        " /usr/lib/x86_64-linux-gnu/libz3.* /usr/lib/postgresql/15/lib/llvmjit*"
    ),
)
# Debian has no MySQL; MariaDB speaks its protocol and its SQL.
MYSQL = Step(
    "mysql",
    packages=("mariadb-server",),
    files=(("usr/local/bin/docker-entrypoint.sh", FILES / "mysql-entrypoint.sh", 0o755),),
    shell="rm -rf /var/lib/mysql; mkdir -p /var/lib/mysql; chown mysql:mysql /var/lib/mysql",
)
REDIS = Step(
    "redis",
    packages=("redis-server", "redis-tools"),
    files=(("usr/local/bin/docker-entrypoint.sh", FILES / "redis-entrypoint.sh", 0o755),),
    shell="mkdir -p /data; chown redis:redis /data",
)
NGINX = Step(
    "nginx",
    packages=("nginx", "gettext-base"),
    files=(
        ("docker-entrypoint.sh", FILES / "nginx-entrypoint.sh", 0o755),
        ("etc/nginx/nginx.conf", FILES / "nginx.conf", 0o644),
        ("etc/nginx/conf.d/default.conf", FILES / "nginx-default.conf", 0o644),
    ),
    shell=(
        "groupadd --system --gid 101 nginx 2>/dev/null || groupadd --system nginx;"
        "useradd --system --gid nginx --no-create-home --home-dir /nonexistent --shell /bin/false nginx;"
        "mkdir -p /docker-entrypoint.d /var/log/nginx;"
        "rm -rf /etc/nginx/sites-* /etc/nginx/modules-enabled;"
        "ln -sf /dev/stdout /var/log/nginx/access.log; ln -sf /dev/stderr /var/log/nginx/error.log"
    ),
)
SQUID = Step(
    "squid",
    packages=("squid", "gettext-base"),
    files=(
        ("usr/local/bin/entrypoint.sh", FILES / "squid-entrypoint.sh", 0o755),
        ("etc/squid/conf.d/localnet.conf", FILES / "squid-conf.d.conf", 0o644),
    ),
)
BUSYBOX = Step("busybox", action="busybox")
XINFERENCE = Step("xinference", action="xinference")
XINFERENCE_OLD = Step("xinference-0.13.3", action="xinference", release="0.13.3")
WEAVIATE = Step("weaviate", action="files", files=(("bin/weaviate", FILES / "weaviate.py", 0o755),))
PYTHON_CLIENTS = Step(
    "python-clients",
    packages=("python3-psycopg2", "python3-pymysql", "python3-redis"),
    shell="groupadd --gid 1001 dify; useradd --uid 1001 --gid dify --create-home --shell /bin/bash dify;"
    "mkdir -p /app/api/storage /app/storage /app/web; chown -R dify:dify /app",
)
DIFY = Step(
    "dify-standin",
    action="files",
    files=(("entrypoint.sh", FILES / "dify-entrypoint.sh", 0o755), ("opt/dify_standin", DIFY_STANDIN, 0o644)),
)


def _dify(name: str, tag: str, part: str, port: int, folder: str, user: str = "", version: str = "") -> ImageSpec:
    """``version``: of Dify, where it is not the newest that the stand-in can be."""
    env = [f"DIFY_IMAGE={part}", "PYTHONPATH=/opt", "PYTHONUNBUFFERED=1", "PYTHONDONTWRITEBYTECODE=1"]
    if version:
        env.append(f"STANDIN_DIFY_VERSION={version}")
    config: t.Dict[str, t.Any] = {
        "Env": env,
        "Entrypoint": ["/bin/bash", "/entrypoint.sh"],
        "WorkingDir": folder,
        "ExposedPorts": {f"{port}/tcp": {}},
    }
    if user:
        config["User"] = user
    return ImageSpec(f"langgenius/{name}", tag, "stand-in for Dify, by this project", (DEBIAN, PYTHON_CLIENTS, DIFY), config)


_XINFERENCE_CONFIG: t.Dict[str, t.Any] = {
    "Cmd": ["/bin/bash"],
    # The last two keep many servers on one small machine from spinning against each other and from hoarding memory.
    "Env": ["PYTHONUNBUFFERED=1", "LANG=C.UTF-8", "OMP_NUM_THREADS=1", "MALLOC_ARENA_MAX=2"],
    "WorkingDir": "/opt/inference",
}
IMAGES: t.Tuple[ImageSpec, ...] = (
    ImageSpec(
        "xprobe/xinference",
        "v4.1.0",
        "the real Xinference 4.1.0, on CPU: without CUDA, vLLM, SGLang and the largest audio and image engines",
        (DEBIAN, XINFERENCE),
        _XINFERENCE_CONFIG,
    ),
    ImageSpec(
        "xprobe/xinference",
        "v0.13.3",
        "the real Xinference 0.13.3, on CPU: for what servers without autostart need",
        (DEBIAN, XINFERENCE_OLD),
        _XINFERENCE_CONFIG,
        on_demand=True,
    ),
    ImageSpec(
        "library/postgres",
        "15-alpine",
        "the real PostgreSQL 15 of Debian; entry point by this project",
        (DEBIAN, POSTGRES),
        {
            "Entrypoint": ["docker-entrypoint.sh"],
            "Cmd": ["postgres"],
            "Env": [f"PATH=/usr/lib/postgresql/15/bin:{_PATH}", "PGDATA=/var/lib/postgresql/data", "LANG=C.UTF-8"],
            "ExposedPorts": {"5432/tcp": {}},
            "Volumes": {"/var/lib/postgresql/data": {}},
            "StopSignal": "SIGINT",
        },
    ),
    ImageSpec(
        "library/mysql",
        "8.0",
        "the real MariaDB of Debian under MySQL's name; entry point by this project",
        (DEBIAN, MYSQL),
        {"Entrypoint": ["docker-entrypoint.sh"], "ExposedPorts": {"3306/tcp": {}}, "Volumes": {"/var/lib/mysql": {}}},
        on_demand=True,
    ),
    ImageSpec(
        "library/redis",
        "6-alpine",
        "the real Redis of Debian; entry point by this project",
        (DEBIAN, REDIS),
        {
            "Entrypoint": ["docker-entrypoint.sh"],
            "Cmd": ["redis-server"],
            "WorkingDir": "/data",
            "ExposedPorts": {"6379/tcp": {}},
            "Volumes": {"/data": {}},
        },
    ),
    ImageSpec(
        "library/nginx",
        "latest",
        "the real nginx of Debian; entry point by this project",
        (DEBIAN, NGINX),
        {
            "Entrypoint": ["/docker-entrypoint.sh"],
            "Cmd": ["nginx", "-g", "daemon off;"],
            "ExposedPorts": {"80/tcp": {}},
            "StopSignal": "SIGQUIT",
        },
    ),
    ImageSpec(
        "ubuntu/squid",
        "latest",
        "the real squid of Debian; entry point by this project",
        (DEBIAN, SQUID),
        {"Entrypoint": ["entrypoint.sh"], "Cmd": ["-f", "/etc/squid/squid.conf", "-NYC"], "ExposedPorts": {"3128/tcp": {}}},
    ),
    ImageSpec("library/busybox", "latest", "the real busybox of Debian (static)", (BUSYBOX,), {"Cmd": ["sh"]}),
    ImageSpec(
        "semitechnologies/weaviate",
        "1.27.0",
        "stand-in for Weaviate, by this project: answers health checks only",
        (DEBIAN, WEAVIATE),
        {"Entrypoint": ["/bin/weaviate"], "ExposedPorts": {"8080/tcp": {}}},
    ),
    _dify("dify-api", "1.16.1", "api", 5001, "/app/api", user="dify"),
    _dify("dify-web", "1.16.1", "web", 3000, "/app/web", user="dify"),
    _dify("dify-plugin-daemon", "0.6.3-local", "plugin_daemon", 5002, "/app"),
    _dify("dify-sandbox", "0.2.15", "sandbox", 8194, "/app"),
    _dify("dify-agent-backend", "1.16.1", "agent_backend", 5003, "/app"),
    _dify("dify-agent-local-sandbox", "1.16.1", "local_sandbox", 8195, "/app"),
    # A release to upgrade from: its api ran as root still, before 1.10.1.
    _dify("dify-api", "1.9.2", "api", 5001, "/app/api", version="1.9.2"),
    _dify("dify-web", "1.9.2", "web", 3000, "/app/web", version="1.9.2"),
    _dify("dify-plugin-daemon", "0.3.3-local", "plugin_daemon", 5002, "/app", version="1.9.2"),
    _dify("dify-sandbox", "0.2.12", "sandbox", 8194, "/app", version="1.9.2"),
)


def chosen(only: t.Collection[str] = ()) -> t.List[ImageSpec]:
    """The images with these repositories or names; without any, all but those that are built on demand. A name may say a tag."""
    return [spec for spec in IMAGES if spec.name in only or (not spec.on_demand and (not only or spec.repository in only))]
