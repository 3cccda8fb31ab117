# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""The checks as data: what each looks at, how bad it can be, what helps, and where the host's answer is read.

docs/preflight.md is made from this table. Ids are stable: they stand in people's ``gpu_preflight_ignore``.
"""

from __future__ import annotations

import typing as t


class Entry(t.NamedTuple):
    """``severity`` is the worst the check can find: fail, warn or info."""

    name: str
    severity: str
    what: str
    remedy: str
    source: str


CATALOG: dict[str, Entry] = {
    # A: the host
    "A01": Entry("os_supported", "fail", "A distribution that the roles know", "Use Debian 12 or 13, or Ubuntu 22.04, 24.04 or 26.04.", "/etc/os-release"),
    "A02": Entry(
        "arch",
        "fail",
        "A processor that the toolkit exists for",
        "Use a host with x86_64 or aarch64; the NVIDIA container toolkit exists for no other.",
        "uname",
    ),
    "A03": Entry("virtualization", "info", "Bare metal, virtual machine, container or WSL2", "", "systemd-detect-virt, /proc/sys/kernel/osrelease"),
    "A04": Entry(
        "cgroup_version",
        "warn",
        "cgroup v2",
        "Boot with systemd.unified_cgroup_hierarchy=1; Docker ends its support of cgroup v1.",
        "/sys/fs/cgroup/cgroup.controllers",
    ),
    "A05": Entry(
        "cpu_ram",
        "fail",
        "Memory for the server, and for loading a model that fills a GPU",
        "Give the host more memory, or run smaller models.",
        "/proc/meminfo",
    ),
    "A06": Entry("swap", "warn", "No heavy swapping on a host that serves models", "Set vm.swappiness to 10, or give the host more memory.", "/proc/meminfo"),
    "A09": Entry(
        "ulimit_nofile", "warn", "Open files that dockerd may hand to containers", "Raise default-ulimits in docker_daemon_options.", "systemctl show docker"
    ),
    "A12": Entry("hugepages", "info", "Memory locked in huge pages, which no model can use", "Lower vm.nr_hugepages.", "/proc/meminfo"),
    "A13": Entry("numa", "info", "GPUs on different processor sockets", "Give a model GPUs of one socket (gpu_idx).", "/sys/bus/pci/devices/*/numa_node"),
    "A14": Entry(
        "clock",
        "warn",
        "The clock against the Date of the HTTP servers in use",
        "Start chrony or systemd-timesyncd: TLS and apt refuse what is not valid yet, or no more.",
        "HTTP Date, timedatectl",
    ),
    "A16": Entry("reboot_pending", "warn", "A pending reboot", "Reboot before the driver or Docker is installed.", "/run/reboot-required"),
    "A17": Entry(
        "apt_state",
        "fail",
        "dpkg is idle and has nothing half-installed",
        "Run dpkg --configure -a, then apt-get --fix-broken install.",
        "dpkg --audit, /var/lib/dpkg/lock-frontend",
    ),
    "A18": Entry(
        "apt_conflict",
        "fail",
        "No repository with two Signed-By: apt would refuse all its sources",
        "Delete all but one of the entries.",
        "/etc/apt/sources.list, sources.list.d",
    ),
    "A19": Entry(
        "unattended",
        "warn",
        "Nightly upgrades that would replace the driver under running models",
        'Name "nvidia-" and "libnvidia-" in Unattended-Upgrade::Package-Blacklist, and hold the packages.',
        "/etc/apt/apt.conf.d",
    ),
    "A20": Entry(
        "needrestart", "info", "needrestart that would restart Docker", "Leave Docker out: $nrconf{override_rc}{qr(^docker)} = 0.", "/etc/needrestart"
    ),
    # B: disks
    "B01": Entry(
        "dockerroot_space",
        "fail",
        "Room for images in Docker's data folder",
        "Free some space, or put Docker's data-root on a larger disk before the first pull (docker_daemon_options: {data-root: ...}).",
        "statvfs, daemon.json",
    ),
    "B02": Entry(
        "containerd_root",
        "fail",
        "Room in containerd's folder, where Docker 29 keeps its images whatever data-root says",
        "Set root in /etc/containerd/config.toml, or features.containerd-snapshotter: false, before the first pull.",
        "statvfs, /info",
    ),
    "B03": Entry(
        "inodes", "fail", "A million free inodes for images", "Use a file system with more inodes (mkfs.ext4 -i 16384), or delete small files.", "statvfs"
    ),
    "B04": Entry(
        "model_space", "fail", "Room for the declared models", "Use a larger disk for the models (xinference_home), or share their folder.", "statvfs"
    ),
    "B05": Entry(
        "data_root_moved",
        "fail",
        "daemon.json and the running Docker name one data folder",
        "Move the data first, or take data-root out of daemon.json: a restart would hide all images and volumes.",
        "daemon.json, /info",
    ),
    "B06": Entry("fs_type", "warn", "A file system that Docker's layers work well on", "Use ext4 or xfs for Docker's data folder.", "/proc/self/mountinfo"),
    "B07": Entry(
        "readonly_errors",
        "fail",
        "The folders that are written are not mounted read-only",
        "Look for file system errors in the kernel log, then fsck and remount.",
        "statvfs",
    ),
    "B08": Entry(
        "disk_speed",
        "info",
        "Models on a spinning disk",
        "Use an SSD: a 70B model takes some 15 minutes from a spinning disk.",
        "/sys/dev/block/*/queue/rotational",
    ),
    # C: GPUs, as far as can be told without a driver
    "C01": Entry(
        "gpu_present", "fail", "GPUs on the PCI bus", 'Look at PCI passthrough, risers, power and the BIOS setting "Above 4G Decoding".', "/sys/bus/pci/devices"
    ),
    "C02": Entry("gpu_identified", "info", "What the cards are", "", "/sys/bus/pci/devices, table of PCI ids"),
    "C03": Entry(
        "gpu_supported_by_image",
        "fail",
        "Cards that the image's CUDA still knows",
        "Use an older image (v2.x and before bring CUDA 12), or another card.",
        "PCI ids, nvidia-smi, table of images",
    ),
    "C04": Entry(
        "module_flavour",
        "fail",
        "The kernel module that the cards need: open or proprietary",
        "Install the other flavour of the driver's kernel module.",
        "/proc/driver/nvidia/version, modinfo",
    ),
    "C05": Entry("mixed_arch", "warn", "Cards that one driver can serve together", "Move the older cards to another host.", "PCI ids"),
    "C06": Entry(
        "vfio_bound",
        "fail",
        "Cards that are not given to a virtual machine",
        "Unbind the card from that driver, or leave it out of this host's plans.",
        "/sys/bus/pci/devices/*/driver",
    ),
    "C07": Entry(
        "bar_sizes",
        "warn",
        "Cards whose memory windows have addresses",
        'Switch "Above 4G Decoding" on in the BIOS, or boot with pci=realloc.',
        "/sys/bus/pci/devices/*/resource",
    ),
    "C08": Entry(
        "pcie_width",
        "warn",
        "PCIe lanes in use",
        "Reseat the card, look at the riser and at how the slots share lanes.",
        "/sys/bus/pci/devices/*/current_link_width",
    ),
    "C09": Entry("aer", "warn", "PCIe errors that were not corrected", "Reseat the card, look at riser and power.", "/sys/bus/pci/devices/*/aer_dev_*"),
    "C10": Entry("nvswitch", "info", "An NVSwitch baseboard, which needs a fabric manager", "", "/sys/bus/pci/devices, /proc/driver/nvidia-nvswitch"),
    "C11": Entry(
        "iommu_acs",
        "info",
        "GPUs that reach one another directly, and not through the IOMMU",
        "Boot with iommu=pt and switch ACS off in the BIOS when NCCL is slow or hangs; NCCL_P2P_DISABLE=1 in xinference_environment is a stopgap.",
        "/sys/kernel/iommu_groups, configuration space of the PCI bridges",
    ),
    # D: the driver
    "D01": Entry("nouveau", "fail", "nouveau is not loaded", "Blacklist nouveau (options nouveau modeset=0), update-initramfs -u, reboot.", "/sys/module"),
    "D02": Entry(
        "module_loaded",
        "fail",
        "The kernel module is loaded",
        "Install NVIDIA's driver and reboot; if it is installed: dkms status, Secure Boot, kernel headers.",
        "/proc/driver/nvidia/version",
    ),
    "D03": Entry(
        "module_built",
        "fail",
        "A module for the running kernel, when there is one for another",
        "Install linux-headers for this kernel, then dkms autoinstall; or the linux-modules-nvidia package of this kernel.",
        "/lib/modules, dkms",
    ),
    "D04": Entry("headers", "fail", "Kernel headers, where DKMS has to build the module", "apt-get install linux-headers-$(uname -r).", "/lib/modules/*/build"),
    "D05": Entry(
        "secure_boot",
        "fail",
        "Secure Boot that keeps an unsigned module out",
        "Use the signed linux-modules-nvidia packages, enrol the module's key (mokutil, needs the console), or switch Secure Boot off.",
        "/sys/firmware/efi/efivars, kernel log",
    ),
    "D06": Entry(
        "unsupported",
        "fail",
        "The driver knows the card",
        "Use the driver branch that supports it: 580 is the last for Maxwell to Volta, Blackwell needs 570 or newer.",
        "kernel log",
    ),
    "D07": Entry("smi", "fail", "nvidia-smi works", "Look into the kernel log for NVRM lines.", "nvidia-smi's exit status and output"),
    "D08": Entry(
        "mismatch_pending",
        "warn",
        "The loaded module is the installed one",
        "Reboot in a maintenance window, before containers are started anew.",
        "/proc/driver/nvidia/version, modinfo",
    ),
    "D09": Entry("count", "fail", "Every GPU on the bus answers", "Look for Xid lines in the kernel log and power-cycle the host.", "sysfs against nvidia-smi"),
    "D10": Entry(
        "driver_vs_image",
        "fail",
        "A driver that is new enough for the image's CUDA",
        "Upgrade the driver, or use an older image.",
        "nvidia-smi, table of images",
    ),
    "D11": Entry(
        "driver_eol",
        "warn",
        "A driver branch that still gets fixes",
        "Plan for the 580 branch (long-term support until June 2028) or newer.",
        "table of branches",
    ),
    "D12": Entry(
        "several_installs",
        "fail",
        "One driver, installed one way",
        "Remove all but one of them (nvidia-uninstall for the .run installer), then reboot.",
        "dpkg, /usr/bin/nvidia-uninstall",
    ),
    "D13": Entry("holds", "warn", "All packages of the driver held, or none", "apt-mark hold all of them: one that moves alone breaks the driver.", "dpkg"),
    "D14": Entry(
        "persistence",
        "warn",
        "Persistence mode",
        "systemctl enable --now nvidia-persistenced: without it, every first call loads the driver anew.",
        "nvidia-smi",
    ),
    "D15": Entry("device_nodes", "fail", "The device nodes that CUDA opens", "Run nvidia-modprobe -u -c0, or start nvidia-persistenced.", "/dev/nvidia*"),
    "D16": Entry("cuinit", "fail", "CUDA itself: cuInit, and as many devices as nvidia-smi lists", "Look into the kernel log for NVRM lines.", "libcuda.so.1"),
    "D17": Entry(
        "cuda_toolkit",
        "fail",
        "A CUDA toolkit on the host: not needed, unless gpu_preflight_require asks for it",
        "Install the toolkit from NVIDIA's repository, or take cuda_toolkit out of gpu_preflight_require: the image brings its own.",
        "/usr/local/cuda*/version.json, dpkg",
    ),
    "D18": Entry(
        "cudnn",
        "fail",
        "cuDNN on the host: not needed, unless gpu_preflight_require asks for it",
        "Install cuDNN from NVIDIA's repository, or take cudnn out of gpu_preflight_require: the image brings its own.",
        "cudnn_version.h, dpkg",
    ),
    # E: health
    "E01": Entry("xid", "fail", "Xid errors since the start of the machine", "Reset the GPU or reboot; what comes back is hardware.", "kernel log"),
    "E02": Entry(
        "ecc", "fail", "No uncorrected memory errors since the start of the machine", "Reset the GPU; if they come back, have the card replaced.", "nvidia-smi"
    ),
    "E03": Entry(
        "remap",
        "fail",
        "No failed or pending row remapping or page retirement",
        "Reset the GPU in the next window; after a failure, have the card replaced.",
        "nvidia-smi",
    ),
    "E04": Entry(
        "recovery_action",
        "fail",
        "The driver asks for no recovery",
        "Stop what runs on the GPU and do as the driver asks.",
        "nvidia-smi (driver 570 and newer)",
    ),
    "E05": Entry("throttle", "warn", "No slowdown by heat or power", "Look at cooling, airflow and power supply.", "nvidia-smi"),
    "E06": Entry("power_cap", "info", "A power limit below the card's own", "nvidia-smi -pl takes it off, if it is not wanted.", "nvidia-smi"),
    "E07": Entry("in_use", "warn", "GPUs that nobody else uses", "Stop the other program, or leave this GPU out (xinference_gpus).", "nvidia-smi"),
    "E08": Entry(
        "free_memory",
        "warn",
        "GPU memory for the declared models: which of them fit nowhere, and will not be launched",
        "Use a smaller size or a quantized format, give it more GPUs, or another host.",
        "nvidia-smi, declared models",
    ),
    "E09": Entry("compute_mode", "warn", "GPUs that several processes may use", "nvidia-smi -c 0.", "nvidia-smi"),
    "E10": Entry(
        "mig_mode",
        "warn",
        "MIG with instances, and no pending change",
        "Create MIG instances or switch MIG off, then restart nvidia-cdi-refresh.",
        "nvidia-smi",
    ),
    "E11": Entry("display", "info", "A desktop that takes GPU memory", "Boot without a desktop: systemctl set-default multi-user.target.", "nvidia-smi"),
    "E12": Entry(
        "vgpu_license",
        "warn",
        "A vGPU with a licence",
        "Configure the licence (gridd.conf): without one it is slowed down after 20 minutes.",
        "nvidia-smi -q -x",
    ),
    # F: NVSwitch machines
    "F01": Entry(
        "fm_version",
        "fail",
        "A fabric manager of exactly the driver's version",
        "Install nvidia-fabricmanager of the driver's version and hold both.",
        "dpkg, nvidia-smi",
    ),
    "F02": Entry(
        "fm_running",
        "fail",
        "A running fabric manager",
        "systemctl enable --now nvidia-fabricmanager: without it CUDA fails with 802, while nvidia-smi looks fine.",
        "systemctl",
    ),
    "F03": Entry("fabric_state", "fail", "GPUs that have joined the fabric", "journalctl -u nvidia-fabricmanager.", "nvidia-smi"),
    "F04": Entry(
        "nvlsm", "fail", "The NVLink subnet manager, on boards of the fifth generation", "apt-get install nvlsm, then restart nvidia-fabricmanager.", "dpkg"
    ),
    "F05": Entry(
        "nvlink", "warn", "NVLinks that are up", "Look for Xid 74 in the kernel log; reseat the bridge, or have the board looked at.", "nvidia-smi nvlink -s"
    ),
    "F06": Entry("fm_useless", "warn", "No fabric manager where there is no NVSwitch", "Remove nvidia-fabricmanager.", "systemctl"),
    # G: Docker and the toolkit, where they are installed already
    "G01": Entry("docker_access", "fail", "Docker answers", "systemctl status docker; journalctl -u docker.", "Docker's socket"),
    "G02": Entry(
        "snap_podman", "fail", "A Docker that can use the host's GPUs", "Install Docker Engine from the distribution or from Docker's repository.", "PATH"
    ),
    "G03": Entry("versions", "fail", "Docker 23 and Compose 2.24.4 or newer", "Upgrade Docker (role docker).", "/info, docker compose version"),
    "G04": Entry(
        "daemon_json_valid",
        "fail",
        "A daemon.json that Docker starts with",
        "Correct /etc/docker/daemon.json before Docker is restarted.",
        "/etc/docker/daemon.json",
    ),
    "G05": Entry(
        "flag_conflict",
        "fail",
        "No key both in daemon.json and on the unit's command line",
        "Take the key out of one of the two.",
        "daemon.json, systemctl show docker",
    ),
    "G06": Entry("pending_reload", "warn", "A running Docker that has read its daemon.json", "systemctl reload docker.", "daemon.json, /info"),
    "G07": Entry(
        "pending_restart",
        "warn",
        "Nothing that waits for a restart of Docker",
        "Restart Docker in a window (live-restore first): --gpus does not work until then.",
        "daemon.json, /info, time of the hook",
    ),
    "G08": Entry(
        "toolkit",
        "fail",
        "The container toolkit, its four packages at one version",
        "Run the role nvidia_container_toolkit, which pins and holds them.",
        "dpkg",
    ),
    "G09": Entry("legacy", "warn", "No nvidia-docker2", "Run the role nvidia_container_toolkit, which removes it and keeps daemon.json.", "dpkg"),
    "G10": Entry("runtime_registered", "warn", "The nvidia runtime, where the toolkit is installed", "Run the role nvidia_container_toolkit.", "/info"),
    "G11": Entry("cdi_devices", "info", "CDI devices", "systemctl restart nvidia-cdi-refresh.", "/info"),
    "G12": Entry(
        "cdi_stale",
        "fail",
        "One CDI specification, of the loaded driver",
        "systemctl restart nvidia-cdi-refresh, and delete a specification that was made by hand.",
        "/etc/cdi, /var/run/cdi",
    ),
    "G13": Entry(
        "nvml_bug_exposed",
        "warn",
        "GPUs that survive systemctl daemon-reload",
        "Stop them and run the role nvidia_container_toolkit, which sets the cgroup driver cgroupfs; or upgrade to Docker 29.2 with a CDI specification.",
        "/info, /etc/cdi, /var/run/cdi, Docker's socket",
    ),
    "G14": Entry(
        "live_restore", "warn", "Containers with GPUs that survive a restart of Docker", "Set docker_live_restore: true; a reload applies it.", "/info"
    ),
    "G15": Entry("image_store", "info", "Which image store Docker uses", "", "/info"),
    "G16": Entry("storage_driver", "fail", "A storage driver for large images", "Use overlay2 or the containerd image store.", "/info"),
    "G18": Entry("gpu_containers", "info", "Containers with GPUs, which a restart of Docker may stop", "", "Docker's socket"),
    "G19": Entry("proxy_daemon", "warn", "A proxy for Docker where the shell has one", "Set proxies in docker_daemon_options.", "/info, environment"),
    "G20": Entry("selinux", "warn", "SELinux that lets containers use devices", "setsebool -P container_use_devices on.", "/sys/fs/selinux"),
    "G21": Entry(
        "userns_rootless", "warn", "Docker without user namespaces", "no-cgroups = true in the toolkit's config.toml, or run Docker as root.", "/info"
    ),
    # H: network
    "H01": Entry(
        "dns", "fail", "Names of the servers in use", "Look at /etc/resolv.conf; an answer in 127.0.0.0/8 or 0.0.0.0 is a block list's.", "getaddrinfo"
    ),
    "H02": Entry(
        "apt_repos",
        "fail",
        "apt repositories that answer with a signed index",
        "Use another mirror (docker_apt_url, nvidia_container_toolkit_repo_url).",
        "HTTP",
    ),
    "H03": Entry(
        "registry_mirrors",
        "fail",
        "Registry mirrors that serve the images, down to a layer",
        "Take the mirror out of docker_registry_mirrors, or repair it.",
        "HTTP",
    ),
    "H04": Entry("model_hub", "fail", "The model hub answers", "Use another one (xinference_model_source), or bring the models yourself.", "HTTP"),
    "H05": Entry(
        "pypi",
        "fail",
        "The Python package index answers: Xinference 3 and newer installs engines from it",
        "Set PIP_INDEX_URL in xinference_environment to an index that answers.",
        "HTTP",
    ),
    "H06": Entry(
        "ports_free", "fail", "Ports that are free, or Xinference's already", "Stop what listens there, or choose another port (xinference_port).", "bind"
    ),
    "H07": Entry(
        "forward",
        "warn",
        "ufw, which does not protect published ports",
        "Bind to a private address (xinference_bind_address) or add rules to DOCKER-USER.",
        "/etc/ufw/ufw.conf",
    ),
    "H08": Entry("firewalld", "warn", "firewalld, which shuts containers out after its reload", "Restart Docker after each reload of firewalld.", "systemctl"),
    "H09": Entry(
        "subnet_overlap",
        "warn",
        "Docker's networks and the host's routes do not overlap",
        "Set default-address-pools (and bip) in docker_daemon_options.",
        "/proc/net/route",
    ),
    "H10": Entry(
        "mtu",
        "warn",
        "Containers with the host's MTU",
        "Set mtu in docker_daemon_options: with a larger one TLS hangs in containers.",
        "/sys/class/net, daemon.json",
    ),
    "H11": Entry("proxy_env", "info", "A proxy in the environment", "", "environment, /etc/environment"),
    "H13": Entry("ipv6", "info", "IPv6 addresses without a route", "precedence ::ffff:0:0/96 100 in /etc/gai.conf.", "getaddrinfo, /proc/net/ipv6_route"),
}

# What is known and is not checked, and why.
ABSENT: dict[str, tuple[str, str]] = {
    "A07": ("shm", "Shared memory is the container's, not the host's: the role xinference sets it (xinference_shm_size)."),
    "A08": ("ulimit_memlock", "The role xinference sets the container's limits itself (xinference_ulimits); the host's do not matter."),
    "A10": ("vm_max_map_count", "Only Elasticsearch and OpenSearch need it, which Dify can be told to use: a matter of the Dify hosts."),
    "A11": ("overcommit_redis", "Dify's Redis runs on the Dify hosts, and its warning is harmless at that size."),
    "A15": ("timezone_locale", "Neither reaches a container."),
    "G17": ("gpu_container", "Starts a container, so it is no part of a look that changes nothing: the roles do it after the installation."),
    "H12": ("inter_host", "Nothing listens before the installation, so a connection would prove nothing; a cluster's workers are waited for afterwards."),
}

__all__ = ["ABSENT", "CATALOG", "Entry"]
