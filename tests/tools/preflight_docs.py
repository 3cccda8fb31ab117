"""docs/preflight.md, made from the catalog of checks: ``python -m tests.tools.preflight_docs`` writes it anew.

A unit test compares the file with what this would write.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docs" / "preflight.md"
sys.path.insert(0, str(ROOT / "collections"))

from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight.catalog import ABSENT, CATALOG

SECTIONS = {
    "A": "The host",
    "B": "Disks",
    "C": "GPUs, as far as can be told without a driver",
    "D": "The driver",
    "E": "Health of the GPUs, and room for the models",
    "F": "NVSwitch machines",
    "G": "Docker and the container toolkit",
    "H": "Network",
}
HEAD = """# Preflight

`preflight.yml` looks at every GPU host and changes nothing. It needs Python 3 on the host and no root, works with
`--check`, and never stops at the first problem nor at the first host: hosts that cannot be reached are in the table too.

```sh
ansible-playbook -i hosts.yml preflight.yml
```

```console
host                     D10  D11  H03  H06
gpu1          ok         .    .    .    .
gpu2          FAIL       FAIL warn .    .
gpu3          FAIL       .    .    .    FAIL
gpu4          warn       .    .    warn .
gpu5          UNREACHABLE

FAIL D10 driver_vs_image
     gpu2: The driver 570.124.04 is too old for the image v4.1.0: CUDA 13.0 needs 580 or newer.
     -> Install driver 580 or newer, or set xinference_version to an older image.
...
```

The same, with every verdict and the GPUs' facts, is in `preflight.json` (`gpu_preflight_json`). The exit status is not 0
when a check failed or a host could not be reached. `site.yml` runs the same checks, leaves failing hosts out, and goes on
with the others.

| status | |
| --- | --- |
| `fail` | this deployment will not work here |
| `warn` | it works, and will cause trouble |
| `info` | worth knowing |
| `unknown` | it could not be seen, mostly for want of root; never the same as `ok` |
| `skip` | it does not apply, another check says the same, or it is ignored |

What is judged is *this* deployment: the image's tag decides which CUDA, driver and cards are needed, `xinference_models`
how much GPU memory, memory and disk, and the ports, mirrors and repositories are those of the inventory. The
[role](../roles/gpu_preflight/README.md) has a variable for each.

To go on despite a finding, say why; the table and the report show the reason:

```yaml
gpu_preflight_ignore:
  C08: This riser has four lanes, and models are loaded once a month.
```

A CUDA toolkit or cuDNN on the host is reported with its version and is not needed: containers bring their own. Whoever
needs one for other reasons asks for it with `gpu_preflight_require: {cuda_toolkit: "12.8", cudnn: "9"}`.
"""


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def document() -> str:
    """The whole file."""
    parts = [HEAD]
    for letter, title in SECTIONS.items():
        parts.append(f"\n## {letter}: {title}\n\n| id | name | worst | what is looked at | what helps | where |\n| --- | --- | --- | --- | --- | --- |\n")
        for name, entry in CATALOG.items():
            if name.startswith(letter):
                parts.append(f"| {name} | `{entry.name}` | {entry.severity} | {cell(entry.what)} | {cell(entry.remedy)} | {cell(entry.source)} |\n")
    parts.append("\n## Known, and not checked\n\n| id | | why not |\n| --- | --- | --- |\n")
    parts += [f"| {name} | {title} | {cell(why)} |\n" for name, (title, why) in ABSENT.items()]
    return "".join(parts)


def main() -> int:
    FILE.write_text(document())
    print(f"Wrote {FILE.relative_to(ROOT)}: {len(CATALOG)} checks.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
