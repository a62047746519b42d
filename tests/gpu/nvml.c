/* A stand-in for NVIDIA's libnvidia-ml: devices as files in the folder NVML_STUB say.
 *
 * count: how many devices; init: what nvmlInit returns; slow: milliseconds that counting takes, also one that is under way; d<n>: uuid,
 * used, total, utilization, temperature, milliwatts, lost of device n, where -1 is "not supported" and lost is an error for each question
 * from the n-th on; p<n>: a line "pid bytes" for each process on it. Each counting of the devices, with which a reading begins, adds a line to polls. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, NOT_SUPPORTED = 3, INSUFFICIENT_SIZE = 7, LOST = 15, UNKNOWN = 999 };

typedef struct { unsigned gpu, memory; } rates;
typedef struct { unsigned long long total, free, used; } memory;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } process;
typedef struct { char uuid[96]; long long used, total, utilization, temperature, power, lost; } device;

static FILE *stub(const char *name, const char *mode) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", getenv("NVML_STUB"), name);
    return fopen(path, mode);
}

static long number(const char *name, long otherwise) {
    FILE *file = stub(name, "r");
    if (file == NULL) return otherwise;
    if (fscanf(file, "%ld", &otherwise) != 1) otherwise = 0;
    fclose(file);
    return otherwise;
}

static int look(void *handle, device *found) {
    char name[32];
    snprintf(name, sizeof name, "d%ld", (long)handle - 1);
    FILE *file = stub(name, "r");
    if (file == NULL) return LOST;
    int read = fscanf(file, "%95s %lld %lld %lld %lld %lld %lld", found->uuid, &found->used, &found->total, &found->utilization,
                      &found->temperature, &found->power, &found->lost);
    fclose(file);
    return read == 7 ? OK : UNKNOWN;
}

static int ask(void *handle, device *found, int question) {
    int problem = look(handle, found);
    return problem ? problem : found->lost && question >= found->lost ? LOST : OK;
}

int nvmlInitWithFlags(unsigned flags) { (void)flags; return (int)number("init", 0); }
int nvmlInit_v2(void) { return (int)number("init", 0); }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { return code == LOST ? "GPU is lost" : code == NOT_SUPPORTED ? "Not Supported" : "Stub error"; }

int nvmlDeviceGetCount_v2(unsigned *count) {
    char line[32];
    FILE *file = stub("polls", "a");
    snprintf(line, sizeof line, "%d\n", getpid());
    fputs(line, file);
    fclose(file);
    for (long slept = 0; slept < number("slow", 0); slept += 10) usleep(10000);
    long found = number("count", 0);
    if (found < 0) return UNKNOWN;
    *count = (unsigned)found;
    return OK;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    device found;
    *handle = (void *)(long)(index + 1);
    return ask(*handle, &found, 1);
}

int nvmlDeviceGetUUID(void *handle, char *uuid, unsigned length) {
    device found;
    int problem = ask(handle, &found, 1);
    if (problem == OK) snprintf(uuid, length, "%s", found.uuid);
    return problem;
}

int nvmlDeviceGetMemoryInfo(void *handle, memory *given) {
    device found;
    int problem = ask(handle, &found, 2);
    if (problem == OK && found.used < 0) return NOT_SUPPORTED;
    given->used = (unsigned long long)found.used;
    given->total = (unsigned long long)found.total;
    given->free = given->total - given->used;
    return problem;
}

int nvmlDeviceGetUtilizationRates(void *handle, rates *given) {
    device found;
    int problem = ask(handle, &found, 3);
    if (problem == OK && found.utilization < 0) return NOT_SUPPORTED;
    given->gpu = given->memory = (unsigned)found.utilization;
    return problem;
}

int nvmlDeviceGetTemperature(void *handle, int sensor, unsigned *given) {
    device found;
    int problem = ask(handle, &found, 4);
    (void)sensor;
    if (problem == OK && found.temperature < 0) return NOT_SUPPORTED;
    *given = (unsigned)found.temperature;
    return problem;
}

int nvmlDeviceGetPowerUsage(void *handle, unsigned *given) {
    device found;
    int problem = ask(handle, &found, 5);
    if (problem == OK && found.power < 0) return NOT_SUPPORTED;
    *given = (unsigned)found.power;
    return problem;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *count, process *given) {
    device found;
    char name[32];
    unsigned room = *count, pid;
    unsigned long long used;
    int problem = ask(handle, &found, 6);
    if (problem) return problem;
    *count = 0;
    snprintf(name, sizeof name, "p%ld", (long)handle - 1);
    FILE *file = stub(name, "r");
    if (file == NULL) return OK;
    while (fscanf(file, "%u %llu", &pid, &used) == 2) {
        if (*count < room && given != NULL) given[*count] = (process){pid, used, 0, 0};
        ++*count;
    }
    fclose(file);
    return *count > room ? INSUFFICIENT_SIZE : OK;
}
