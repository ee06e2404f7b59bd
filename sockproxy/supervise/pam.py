"""Install the services that PAM is asked by (config/pam.d), where they are missing."""

from __future__ import annotations

import os

from sockproxy.supervise.host import UpError, say

PAM = "/etc/pam.d"


def install(folder: str) -> None:
    """Install the files of our PAM services where there are none yet; what an administrator changed stays.

    Args:
        folder: where ours come from.

    Raises:
        UpError: they can't be installed. Without them PAM would take /etc/pam.d/other, which may let everybody in.
    """
    for name in sorted(os.listdir(folder)):
        target = os.path.join(PAM, name)
        if os.path.exists(target):
            continue
        try:
            with open(os.path.join(folder, name), "rb") as file:
                text = file.read()
            fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
            with open(fd, "wb") as file:
                file.write(text)
        except FileExistsError:
            continue  # another sockproxy is starting
        except OSError as error:
            raise UpError(
                f"cannot install {target}: {error.strerror} (copy it from {folder}, or leave accounts unchecked with"
                " `auth: {accounts: none}` in the policy file)"
            ) from error
        say(f"installed {target}")
