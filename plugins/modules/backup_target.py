#!/usr/bin/python
# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_target
short_description: Send backups to an S3-compatible server or by rsync, keep some there, and fetch them
version_added: 0.1.0
author: The llmops.dify_xinference contributors (@llmops)
description:
  - Sends a backup that M(llmops.dify_xinference.dify_backup) or M(llmops.dify_xinference.xinference_backup) made on this host, and
    takes old ones away from there; or fetches one, on the same or on another host.
  - A backup is sent with its manifest last and removed with its manifest first, so what has a manifest there is whole. Sizes are
    compared after sending; content is checked against the manifest when a backup is used.
  - S3 is spoken with the standard library of Python alone, signed (Signature Version 4). Files of more than 32 MiB go in parts; a file may have
    5 TiB. A part is held in memory, which are 32 MiB up to files of 312 GiB.
  - Nothing on this host is changed when the target cannot be reached, refuses or is full, and what runs is never touched.
extends_documentation_fragment:
  - llmops.dify_xinference.attributes
  - llmops.dify_xinference.backup.retention
attributes:
  check_mode:
    support: full
    details: Asks the target what it has, so that credentials and address are proven, and sends and removes nothing.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  state:
    description:
      - V(listed) says which backups are there.
      - V(sent) sends O(backup), unless it is there already.
      - V(fetched) has one in a folder below O(path), unless it is there already.
    type: str
    choices: [listed, sent, fetched]
    default: sent
  product:
    description: What the backups are of.
    type: str
    choices: [dify, xinference]
    default: dify
  host:
    description: The host's name in the backups' names; no other backups are looked at.
    type: str
    required: true
  backup:
    description: For V(sent) the folder of a backup on this host; for V(fetched) the name of one there, the newest when not given.
    type: str
  path:
    description: Folder on this host that gets what is fetched. Needed for O(state=fetched).
    type: path
  s3:
    description: A bucket of an S3-compatible server.
    type: dict
    suboptions:
      endpoint:
        description: Address of the server, as in V(https://s3.eu-central-1.amazonaws.com) or V(http://minio.lan:9000).
        type: str
        required: true
      bucket:
        description: Name of the bucket. It is not made.
        type: str
        required: true
      prefix:
        description: What the backups' names follow in the bucket, as in V(dify/production).
        type: str
        default: ""
      region:
        description: Region of the bucket. Most servers other than Amazon's take any.
        type: str
        default: us-east-1
      path_style:
        description: Whether the bucket's name is in the path, as most servers want it, and not in the host's name.
        type: bool
        default: true
      access_key:
        description: Access key. It may list, read, write and delete below O(s3.prefix).
        type: str
        required: true
      secret_key:
        description: Secret key that belongs to O(s3.access_key).
        type: str
        required: true
      session_token:
        description: Session token of temporary credentials.
        type: str
      validate_certs:
        description: Whether the server's certificate is verified.
        type: bool
        default: true
      ca_path:
        description: File on this host with the authorities to trust, for a server with a certificate of your own.
        type: path
      timeout:
        description: Seconds for one request, one part of a file that is. It is asked again three times.
        type: float
        default: 60
  rsync_target:
    description: Folder that C(rsync) reaches, as in V(backup@nas:/backups/) or V(rsync://nas/backups/).
    type: str
  rsync_command:
    description: Remote shell of C(rsync).
    type: str
    default: ssh -o BatchMode=yes
"""

EXAMPLES = r"""
- name: Send a backup to a bucket
  llmops.dify_xinference.backup_target:
    state: sent
    host: "{{ inventory_hostname }}"
    backup: /var/backups/llmops/dify-dify1-20261124T170000Z
    keep: 30
    s3:
      endpoint: https://minio.example.com:9000
      bucket: backups
      prefix: dify
      access_key: "{{ backup_access_key }}"
      secret_key: "{{ backup_secret_key }}"

- name: Have the newest backup of dify1 on this new host
  llmops.dify_xinference.backup_target:
    state: fetched
    host: dify1
    path: /var/backups/llmops
    rsync_target: backup@nas.example.com:/backups/
"""

RETURN = r"""
backup:
  description: Folder of the backup on this host.
  type: str
  returned: O(state=sent) and O(state=fetched)
backups:
  description: Names of the whole backups that are there, the newest first.
  type: list
  elements: str
  returned: success
bytes:
  description: Bytes that were sent or fetched.
  type: int
  returned: O(state=sent) and O(state=fetched)
removed:
  description: Names of what was removed there, old backups and what interrupted runs left.
  type: list
  elements: str
  returned: O(state=sent)
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _backup_store as store
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _backup_target as targets
from ansible_collections.llmops.dify_xinference.plugins.module_utils._backup_args import retention_arguments
from ansible_collections.llmops.dify_xinference.plugins.module_utils._backup_plan import backup_name
from ansible_collections.llmops.dify_xinference.plugins.module_utils._backup_seal import BackupError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._http import open_url_transport
from ansible_collections.llmops.dify_xinference.plugins.module_utils._s3 import Bucket, Keys


def target_of(params: dict) -> targets.Target:
    s3 = params["s3"]
    if not s3:
        return targets.ByRsync(params["rsync_target"], params["rsync_command"])
    keys = Keys(s3["access_key"], s3["secret_key"], s3["session_token"] or "")
    transport = open_url_transport(s3["validate_certs"], s3["ca_path"])
    return targets.InBucket(Bucket(transport, s3["endpoint"], s3["bucket"], keys, s3["prefix"], s3["region"], s3["path_style"], s3["timeout"]))


def run(params: dict, check_mode: bool) -> dict:
    target, product, host, backup = target_of(params), params["product"], params["host"], params["backup"] or ""
    if params["state"] == "listed" or check_mode:
        there = target.listing(backup_name(product, host, ""))
        names = targets.whole(there, product, host)
        return {"changed": params["state"] != "listed" and backup.rstrip("/").rpartition("/")[2] not in names, "backups": names}
    if params["state"] == "sent":
        made = targets.send(target, backup, product, host, params["keep"], store.since(params["keep_days"]))
        return {"backup": backup, **made}
    return targets.fetch(target, params["path"], product, host, backup)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "default": "sent", "choices": ["listed", "sent", "fetched"]},
            "product": {"type": "str", "default": "dify", "choices": ["dify", "xinference"]},
            "host": {"type": "str", "required": True},
            "backup": {"type": "str"},
            "path": {"type": "path"},
            "s3": {
                "type": "dict",
                "options": {
                    "endpoint": {"type": "str", "required": True},
                    "bucket": {"type": "str", "required": True},
                    "prefix": {"type": "str", "default": ""},
                    "region": {"type": "str", "default": "us-east-1"},
                    "path_style": {"type": "bool", "default": True},
                    "access_key": {"type": "str", "required": True, "no_log": True},
                    "secret_key": {"type": "str", "required": True, "no_log": True},
                    "session_token": {"type": "str", "no_log": True},
                    "validate_certs": {"type": "bool", "default": True},
                    "ca_path": {"type": "path"},
                    "timeout": {"type": "float", "default": 60},
                },
            },
            "rsync_target": {"type": "str"},
            "rsync_command": {"type": "str", "default": "ssh -o BatchMode=yes"},
            **retention_arguments(),
        },
        required_if=[("state", "sent", ["backup"]), ("state", "fetched", ["path"])],
        mutually_exclusive=[("s3", "rsync_target")],
        required_one_of=[("s3", "rsync_target")],
        supports_check_mode=True,
    )
    try:
        result = run(module.params, module.check_mode)
    except (BackupError, OSError, ValueError) as error:
        module.fail_json(msg=f"Backups elsewhere, {module.params['state']}: {error}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
