# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Weights that a declared model names: what the module model_weights has to bring, and where the launch then finds them. Pure."""

from __future__ import annotations

import typing as t

# Keys of a model's ``weights`` that go to the module as they are.
_KEYS = ("source", "repo", "revision", "allow", "ignore", "url", "checksums", "files", "sha256", "src")


def weights_of(models: t.Iterable[t.Mapping[str, t.Any]], source: str = "huggingface") -> list[dict[str, t.Any]]:
    """One entry for the module ``model_weights`` per declared model that names its weights and may be launched.

    ``weights`` is a mapping, or the name of a repository. Its folder is ``name``, or the model's uid. Two models that name the same
    weights under the same name share them.
    """
    result: dict[str, dict[str, t.Any]] = {}
    for model in models:
        weights = _mapping(model)
        if not weights or model.get("refused") or model.get("state") == "absent":
            continue
        name = folder_of(model)
        entry = {"name": name, "source": source, **{key: weights[key] for key in _KEYS if weights.get(key) is not None}}
        if name in result and result[name] != entry:
            name = f"{name}-{model.get('uid')}"  # the module says that it is no good: two different things of one name
            entry["name"] = str(result[folder_of(model)]["name"])
        result[name] = entry
    return list(result.values())


def with_weights(models: t.Iterable[t.Mapping[str, t.Any]], mount: str, results: t.Iterable[t.Mapping[str, t.Any]] = ()) -> list[dict[str, t.Any]]:
    """The declaration as the launch wants it: ``model_path`` in place of ``weights``.

    :param mount: where the container has the folder of all weights.
    :param results: the module's results; a model whose weights failed must not be launched, and gets their verdict.
    """
    failed = {str(row.get("name")): str(row.get("reason")) for row in results if row.get("failed")}
    launched = []
    for model in models:
        entry = {key: value for key, value in model.items() if key != "weights"}
        weights = _mapping(model)
        if weights and model.get("state") != "absent":
            name = folder_of(model)
            if name in failed and not entry.get("refused"):
                entry["refused"] = "its weights are not here: " + failed[name]
            if not entry.get("model_path"):
                entry["model_path"] = "/".join(part for part in (mount.rstrip("/"), name, str(weights.get("file") or "")) if part)
        launched.append(entry)
    return launched


def weights_in_bundle(models: t.Iterable[t.Mapping[str, t.Any]], bundled: t.Iterable[t.Mapping[str, t.Any]], url: str) -> list[dict[str, t.Any]]:
    """The declared weights as files of a bundle, each with its checksum; what is not in the bundle stays as it is.

    :param models: for the module ``model_weights``.
    :param bundled: ``weights`` of the bundle's manifest.
    :param url: where the bundle's folder of weights is served.
    """

    def key(entry: t.Mapping[str, t.Any], kind: str = "huggingface") -> tuple[t.Any, ...]:
        kind = str(entry.get("source") or kind)
        revision = entry.get("revision") or {"huggingface": "main", "modelscope": "master"}.get(kind, "")
        where = entry.get("repo") if kind in ("huggingface", "modelscope") else entry.get("url")
        return kind, where, revision, tuple(entry.get("allow") or ()), tuple(entry.get("ignore") or ())

    known = {key(entry): entry for entry in bundled}
    result = []
    for model in models:
        found = known.get(key(model))
        if not found:
            result.append(dict(model))
            continue
        entry = {"name": model["name"], "source": "http", "url": f"{url.rstrip('/')}/{found['folder']}"}
        files = [dict(file) for file in found["files"]]
        if model.get("source") == "http" and model.get("sha256"):  # one archive, to be unpacked
            entry.update(url=f"{entry['url']}/{files[0]['path']}", sha256=files[0]["sha256"])
        else:
            entry["files"] = files
        result.append(entry)
    return result


def folder_of(model: t.Mapping[str, t.Any]) -> str:
    return str(_mapping(model).get("name") or model.get("uid"))


def _mapping(model: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    weights = model.get("weights")
    if isinstance(weights, str):
        return {"repo": weights} if weights else {}
    return dict(weights) if isinstance(weights, t.Mapping) else {}


__all__ = ["folder_of", "weights_in_bundle", "weights_of", "with_weights"]
