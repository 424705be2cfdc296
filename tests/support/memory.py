"""What a process of its own holds, for scripts that measure it."""

from __future__ import annotations

HELD = '''
def held(field="VmHWM"):
    """Bytes, at the peak or (VmRSS) now; ru_maxrss would count the parent's peak. Linux only."""
    line = next(line for line in open("/proc/self/status") if line.startswith(field))
    return int(line.split()[1]) * 1024
'''
