"""Virtual ARM boards: aarch64 userlands under qemu and proot behind a real SSH server, without root and without binfmt.

    python -m device_rig debian12 uname -m         from tests/: one command on a board
    python -m device_rig --serve debian12 busybox  SSH servers until Ctrl-C

docs/device_rig.md has the rest.
"""
