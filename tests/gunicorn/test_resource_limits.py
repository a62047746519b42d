from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from monitoring.gunicorn.resource_limits import cpu_limit, default_workers, memory_limit
from tests.conftest import built_environment

if TYPE_CHECKING:
    from pathlib import Path

AFFINITY = len(os.sched_getaffinity(0))
V2 = "30 24 0:27 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
V1_CPU = "33 25 0:28 {root} /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:10 - cgroup cgroup rw,cpu,cpuacct"
V1_MEMORY = "34 25 0:29 {root} /sys/fs/cgroup/memory rw,nosuid shared:11 - cgroup cgroup rw,memory"
MIB = 1 << 20


def tree(root: Path, files: dict[str, str]) -> Path:
    """Lay out the files that the kernel shows, with its own text."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def v2(root: Path, own: str = "0::/", **files: str) -> Path:
    named = {f"sys/fs/cgroup/{name.replace('__', '/').replace('_', '.')}": text for name, text in files.items()}
    return tree(root, {"proc/self/cgroup": own, "proc/self/mountinfo": V2, **named})


def test_no_control_group_means_affinity(tmp_path: Path) -> None:
    assert cpu_limit(tmp_path) == AFFINITY
    assert memory_limit(tmp_path) is None
    assert default_workers(200, tmp_path) == AFFINITY


def test_v2_quota_rounds_up_and_unlimited_is_affinity(tmp_path: Path) -> None:
    assert cpu_limit(v2(tmp_path / "a", cpu_max="50000 100000")) == 0.5
    assert default_workers(200, tmp_path / "a") == 1
    assert cpu_limit(v2(tmp_path / "b", cpu_max="max 100000")) == AFFINITY
    assert cpu_limit(v2(tmp_path / "c", cpu_max="100000000 100000")) == AFFINITY
    if AFFINITY >= 2:
        assert default_workers(200, v2(tmp_path / "d", cpu_max="110000 100000")) == 2


def test_v2_memory(tmp_path: Path) -> None:
    assert memory_limit(v2(tmp_path / "a", memory_max=str(450 * MIB))) == 450 * MIB
    assert memory_limit(v2(tmp_path / "b", memory_max="max")) is None
    assert default_workers(450, tmp_path / "a") == 1
    assert default_workers(1000, tmp_path / "a") == 1
    if AFFINITY >= 2:
        assert default_workers(200, tmp_path / "a") == 2
        assert default_workers(226, tmp_path / "a") == 1


def test_v2_the_least_limit_from_our_group_up_to_the_top_counts(tmp_path: Path) -> None:
    files = {"pods__cpu_max": "30000 100000", "pods__pod__cpu_max": "max 100000", "pods__memory_max": "max"}
    root = v2(tmp_path, "0::/pods/pod", **files, pods__pod__memory_max="1000", memory_max="5000")
    assert cpu_limit(root) == 0.3
    assert memory_limit(root) == 1000


def test_a_path_outside_our_namespace_reads_the_top(tmp_path: Path) -> None:
    assert memory_limit(v2(tmp_path / "a", "0::/../../other", memory_max="7000")) == 7000
    assert memory_limit(v2(tmp_path / "b", "0::/gone/away", memory_max="7000")) == 7000


@pytest.mark.parametrize("mounted", ["/docker/abc", "/"])
def test_v1(tmp_path: Path, mounted: str) -> None:
    below = "" if mounted != "/" else "docker/abc/"
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc",
            "proc/self/mountinfo": "\n".join([V1_CPU.format(root=mounted), V1_MEMORY.format(root=mounted)]),
            f"sys/fs/cgroup/cpu,cpuacct/{below}cpu.cfs_quota_us": "25000",
            f"sys/fs/cgroup/cpu,cpuacct/{below}cpu.cfs_period_us": "50000",
            f"sys/fs/cgroup/memory/{below}memory.limit_in_bytes": "123456789",
        },
    )
    assert cpu_limit(root) == 0.5
    assert memory_limit(root) == 123456789


def test_v1_unlimited(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "5:memory:/\n4:cpu,cpuacct:/",
            "proc/self/mountinfo": "\n".join([V1_CPU.format(root="/"), V1_MEMORY.format(root="/")]),
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
        },
    )
    assert cpu_limit(root) == AFFINITY
    assert memory_limit(root) is None


def test_damaged_files_limit_nothing(tmp_path: Path) -> None:
    root = v2(tmp_path, "nonsense\n0::/", cpu_max="a b", memory_max="0")
    assert cpu_limit(root) == AFFINITY
    assert memory_limit(root) is None


def test_a_narrower_affinity_counts() -> None:
    narrow = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); "
    program = narrow + "from monitoring.gunicorn.resource_limits import cpu_limit; print(cpu_limit())"
    done = subprocess.run([sys.executable, "-c", program], env=built_environment(), capture_output=True, text=True, check=True)
    assert float(done.stdout) <= 1
