"""A real device: what two processes allocate is what is read, as nvidia-smi says too."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from monitoring.gpu.devices import Nvml
from tests.conftest import built_environment

MEBIBYTE = 1024 * 1024
SIZE = 512 * MEBIBYTE
PROGRAM = """
import ctypes, sys
cuda = ctypes.CDLL("libcuda.so.1")
context, memory, device = ctypes.c_void_p(), ctypes.c_uint64(), ctypes.c_int()
for call in (
    lambda: cuda.cuInit(0),
    lambda: cuda.cuDeviceGet(ctypes.byref(device), 0),
    lambda: cuda.cuCtxCreate_v2(ctypes.byref(context), 0, device),
    lambda: cuda.cuMemAlloc_v2(ctypes.byref(memory), ctypes.c_size_t(int(sys.argv[1]))),
):
    code = call()
    assert code == 0, code
print("allocated", flush=True)
sys.stdin.read()
"""


def smi(*arguments: str) -> list[list[str]]:
    found = shutil.which("nvidia-smi")
    assert found, "nvidia-smi comes with the driver"
    lines = subprocess.run([found, *arguments, "--format=csv,noheader,nounits"], check=True, capture_output=True, text=True).stdout
    return [[field.strip() for field in line.split(",")] for line in lines.splitlines()]


@pytest.mark.gpu
def test_what_two_processes_allocate_is_read() -> None:
    nvml = Nvml()
    before = nvml.read().devices[0]
    command = [sys.executable, "-c", PROGRAM, str(SIZE)]
    running = [
        subprocess.Popen(command, env=built_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    try:
        for process in running:
            assert process.stdout is not None
            assert process.stdout.readline() == "allocated\n"
        found = nvml.read()
        device = found.devices[0]
        grown = device.values["ryot_gpu_memory_usage_bytes"] - before.values["ryot_gpu_memory_usage_bytes"]
        assert 2 * SIZE <= grown <= 2 * SIZE + 4096 * MEBIBYTE  # and the contexts
        (uuid, used, total), *_ = smi("--query-gpu=uuid,memory.used,memory.total")
        assert device.uuid == uuid
        assert device.values["ryot_gpu_memory_usage_bytes"] / MEBIBYTE == pytest.approx(float(used), abs=1200)  # reserved by the driver
        assert device.values["gpu_memory_total_bytes"] / MEBIBYTE == pytest.approx(float(total), abs=1200)
        assert 0 <= device.values["gpu_utilization_ratio"] <= 1
        sizes = {int(pid): float(size) for pid, size in smi("--query-compute-apps=pid,used_memory") if size.isdecimal()}
        for pid, size in device.processes.items():
            assert size / MEBIBYTE == pytest.approx(sizes[pid], abs=2)
    finally:
        for process in running:
            process.kill()
            process.communicate()
