# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Which driver and which card a CUDA version needs, and which CUDA version an image of Xinference brings.

Sources: docs.nvidia.com/deploy/cuda-compatibility (minor version compatibility), the CUDA toolkit release notes,
docs.nvidia.com/datacenter/tesla (driver branches), and the image notes of xorbitsai/inference
(doc/source/getting_started/using_docker_image.rst and the tags' workflow files). State of 2026-11.
"""

from __future__ import annotations

import re
import typing as t

# CUDA major version -> smallest driver that runs any minor version of it
MIN_DRIVER_BY_CUDA_MAJOR: dict[int, str] = {
    11: "450.80.02",
    12: "525.60.13",
    13: "580.65.06",
}

# CUDA major version -> smallest compute capability its compilers and libraries still know
MIN_CC_BY_CUDA_MAJOR: dict[int, str] = {
    11: "3.5",
    12: "5.0",
    13: "7.5",
}

# driver branch -> CUDA version that its nvidia-smi reports
CUDA_BY_DRIVER_BRANCH: dict[int, str] = {
    450: "11.0",
    460: "11.2",
    470: "11.4",
    495: "11.5",
    510: "11.6",
    515: "11.7",
    520: "11.8",
    525: "12.0",
    530: "12.1",
    535: "12.2",
    545: "12.3",
    550: "12.4",
    555: "12.5",
    560: "12.6",
    565: "12.7",
    570: "12.8",
    575: "12.9",
    580: "13.0",
    590: "13.1",
    595: "13.2",
    610: "13.3",
}


class ImageNeeds(t.NamedTuple):
    """What one image of Xinference needs; ``cuda`` is empty for the CPU images."""

    image_version: str
    cuda: str
    min_driver: str
    min_cc: str


# (first version, CUDA suffix of the tag or "", CUDA, smallest driver): the last row that fits counts.
_IMAGE_ROWS: tuple[tuple[tuple[int, int, int], str, str, str], ...] = (
    ((0, 13, 0), "", "12.4", "550"),
    ((1, 8, 1), "-cu128", "12.8", "570"),
    ((1, 16, 0), "-cu129", "12.9", "575"),
    ((2, 0, 0), "", "12.9", "575"),
    ((3, 0, 0), "", "13.0", "580"),
)
_TAG = re.compile(r"^v?(\d+)\.(\d+)(?:\.(\d+))?((?:[.-][A-Za-z0-9]+)*)$")
_ROLLING = ("latest", "nightly-main")


def version_key(version: str) -> tuple[int, ...]:
    """``"580.65.06"`` as numbers, so that versions compare as such; what is not a number ends it."""
    key = []
    for part in version.split("."):
        digits = re.match(r"\d+", part)
        if not digits:
            break
        key.append(int(digits.group()))
    return tuple(key)


def image_needs(image_version: str) -> ImageNeeds | None:
    """What the image with this tag needs, or ``None`` for a tag that is in no table (own builds)."""
    if image_version.endswith("-cpu"):
        return ImageNeeds(image_version, "", "", "")
    if image_version in _ROLLING:
        wanted, suffix = (99, 0, 0), ""
    else:
        match = _TAG.match(image_version)
        if not match:
            return None
        wanted = (int(match.group(1)), int(match.group(2)), int(match.group(3) or 0))
        suffix = next((part for part in ("-cu128", "-cu129") if part in match.group(4)), "")
    fitting = [row for row in _IMAGE_ROWS if row[0] <= wanted and row[1] in ("", suffix)]
    if not fitting:
        return None
    cuda, driver = fitting[-1][2:]
    return ImageNeeds(image_version, cuda, driver, MIN_CC_BY_CUDA_MAJOR[int(cuda.split(".", maxsplit=1)[0])])


def cuda_of_driver(driver_version: str) -> str | None:
    """The newest CUDA version a driver speaks; of an unknown branch, what the branch below it speaks."""
    key = version_key(driver_version)
    if not key:
        return None
    known = [branch for branch in CUDA_BY_DRIVER_BRANCH if branch <= key[0]]
    return CUDA_BY_DRIVER_BRANCH[max(known)] if known else None


__all__ = ["CUDA_BY_DRIVER_BRANCH", "ImageNeeds", "MIN_CC_BY_CUDA_MAJOR", "MIN_DRIVER_BY_CUDA_MAJOR", "cuda_of_driver", "image_needs", "version_key"]
