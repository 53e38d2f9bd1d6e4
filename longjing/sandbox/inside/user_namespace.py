"""Who the program is: an unprivileged user of a user namespace in a user namespace.

The outer one holds the launcher, as root of what it builds. Each program gets an inner one, in which it is USER: for
the machine that is the one who started longjing, or, if that is root, an unused user.
"""

import os

from .linux import drop_capabilities, forbid_new_privileges, prctl, unshare

USER = 1000  # inside
UNUSED_USER = 65533  # of the machine, where root started longjing; systemd leaves 65520 to 65533 to nobody


def enter_user_namespace() -> int:
    """Move to a user namespace as its root; returns the user there who becomes USER in the inner ones.

    Raises OSError where the machine forbids it."""
    user, group = os.geteuid(), os.getegid()
    privileged = user == 0
    if privileged:
        # While it is still allowed: within the namespace it is forbidden for good.
        os.setgroups([])
    unshared_read, unshared_write = os.pipe()
    parent = os.getpid()
    # Only a process outside may give several users.
    if not (helper := os.fork()):
        os.close(unshared_write)
        os.read(unshared_read, 1)
        spare = f"\n{USER} {UNUSED_USER} 1" if privileged else ""
        try:
            write_id_maps(parent, f"0 {user} 1{spare}", f"0 {group} 1{spare}")
        except OSError as error:
            os._exit(error.errno or 1)
        os._exit(0)
    os.close(unshared_read)
    unshare("user")
    os.close(unshared_write)
    code = os.waitstatus_to_exitcode(os.waitpid(helper, 0)[1])
    if code:
        raise OSError(code, f"writing uid_map: {os.strerror(code)}")
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    return USER if privileged else 0


def write_id_maps(process: int, users: str, groups: str) -> None:
    """Say who the users of the user namespace of `process` are outside of it. Raises OSError."""
    for name, text in (("setgroups", "deny"), ("uid_map", users), ("gid_map", groups)):
        with open(f"/proc/{process}/{name}", "w") as file:
            file.write(text)


def become_user(harmless: bool = True) -> None:
    """Be USER, without any privilege and for good. Raises OSError."""
    os.setresgid(USER, USER, USER)
    os.setresuid(USER, USER, USER)
    prctl(4, 1)  # PR_SET_DUMPABLE: the change hid the memory, and so its size, from the supervisor
    if harmless:
        drop_capabilities()
        forbid_new_privileges()
