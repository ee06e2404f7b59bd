"""Run a script in a virtual machine with a Debian 12, systemd, Docker and a kernel of its own: User-Mode Linux.

That kernel is the same code, built to run as a process of this machine's: it needs no support of the processor, and is
not emulated, as a virtual machine would have to be on most machines that are virtual themselves. Its disk is made once,
below the engines' cache; what a run writes is gone with it. It has no network; a folder of this machine is its /host.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.support import needs
from tests.support.booted import debian, once

VERSION = "1"  # of what is on the disk: a change of anything below needs another
PACKAGES = "systemd,systemd-sysv,dbus,udev,kmod,python3,docker.io,busybox-static,iproute2,iptables,apparmor"
PACKAGES += ",nfs-kernel-server,bindfs,sssd,libnss-sss,libpam-sss,user-mode-linux"
# Debian 12's kernel, and 11's beside it. Services that a case wants are started by it.
KERNELS = r"""
set -eu
for file in "$1"/etc/apt/sources.list.d/*; do sed s/bookworm/bullseye/g "$file" >"${file%/*}/old-${file##*/}"; done
chroot "$1" sh -euc '
    mkdir -p /lib/modules; apt-get -qq update; cd /tmp
    apt-get -qq -o APT::Sandbox::User=root download \
        user-mode-linux=$(apt-cache madison user-mode-linux | awk "/ 5[.]10/ {print \$3; exit}")
    dpkg-deb -x user-mode-linux_*.deb /old; rm user-mode-linux_*.deb /etc/apt/sources.list.d/old-*
    mv /usr/lib/uml/modules/* /old/usr/lib/uml/modules/* /lib/modules
    for version in $(ls /lib/modules); do depmod $version; done
    update-alternatives --quiet --set iptables /usr/sbin/iptables-legacy  # that kernel has not all of nftables
    units=$(cd /lib/systemd/system; ls sssd-*.socket)
    systemctl --quiet disable sssd $units nfs-server nfs-client.target rpcbind || :'
cat >"$1/etc/systemd/system/script.service" <<END
[Unit]
After=multi-user.target
[Service]
ExecStart=sh -c 'mkdir -p /host; mount -t hostfs none /host -o \$(sed "s/.*host=//; s/ .*//" /proc/cmdline); \
    python3 -u /host/script \$(cat /host/arguments) >/host/out 2>&1; echo \$? >/host/code; systemctl poweroff -ff'
[Install]
WantedBy=graphical.target
END
chroot "$1" systemctl --quiet enable script.service
chroot "$1" systemctl --quiet set-default graphical.target
"""
PACK = """
cp "$1/root/usr/bin/linux.uml" "$1/linux-6.1"; cp "$1/root/old/usr/bin/linux.uml" "$1/linux-5.10"; rm -r "$1/root/old"
truncate -s 6G "$1/disk"
mkfs.ext4 -q -d "$1/root" "$1/disk"
rm -rf "$1/root"
"""


def disk() -> Path:
    """Find the folder with disk and kernels, made now when it isn't there."""
    if not shutil.which("mmdebstrap"):
        needs.missing("no mmdebstrap on this host")
    return once(f"virtual-{VERSION}", _make)


def _make(place: Path) -> None:
    place.mkdir()
    debian(place / "root", PACKAGES, f"--customize-hook={KERNELS}")
    subprocess.run(["sh", "-euc", PACK, "sh", place], check=True)


def run(folder: Path, kernel: str, script: Path, *arguments: str, seconds: float) -> int:
    """Boot, run a Python script, switch off; give its exit code.

    Args:
        folder: is /host; the script's output is in `out` there, the machine's console in `console`.
        kernel: "6.1" or "5.10".
    """
    place = disk()
    shutil.copy(script, folder / "script")
    (folder / "arguments").write_text(" ".join(arguments))
    for name in ("code", "out"):
        (folder / name).unlink(missing_ok=True)
    subprocess.run(["cp", "--sparse=always", place / "disk", folder / "disk"], check=True)
    command = ["nice", "-n", "10", "unshare", "--pid", "--fork", "--kill-child"]  # it is many processes
    command += [str(place / f"linux-{kernel}"), "mem=2G", f"ubd0={folder}/disk", "root=/dev/ubda", "rw", "con=null"]
    command += ["con0=null,fd:1", "console=tty0", "quiet", "security=apparmor", f"host={folder}"]
    with open(folder / "console", "wb") as console:
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=console, stderr=console, timeout=seconds)
    (folder / "disk").unlink()
    code = folder / "code"
    return int(code.read_text()) if code.exists() else 1
