import os, resource, sys

file, memory, seconds, bytes, files, processes = sys.argv[1:]
for name, most in [
    ("AS", memory),
    ("DATA", memory),
    ("CPU", seconds),
    ("FSIZE", bytes),
    ("NOFILE", files),
    ("NPROC", processes),
    ("CORE", "0"),
]:
    try:
        resource.setrlimit(getattr(resource, "RLIMIT_" + name), (int(most), int(most)))
    except (AttributeError, OSError, ValueError):
        # macOS has limits that cannot be set.
        if sys.platform != "darwin":
            raise
os.execv(sys.executable, [sys.executable, "-I", file])
