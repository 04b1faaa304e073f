/* Fails writes to SQLite's log with ENOSPC, as a full disk does, while the file that FULL_DISK_SHIM_FILE names exists. Loaded
 * before the C library (LD_PRELOAD), whose functions it stands in front of. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int is_full(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path);
    const char *file = getenv("FULL_DISK_SHIM_FILE");
    return length >= 4 && memcmp(path + length - 4, "-wal", 4) == 0 && file && access(file, F_OK) == 0;
}

/* The function of the C library that the one here stands in front of. */
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define WRITES(call)                                                                                                   \
    if (is_full(fd)) {                                                                                                 \
        errno = ENOSPC;                                                                                                \
        return -1;                                                                                                     \
    }                                                                                                                  \
    return call

ssize_t write(int fd, const void *bytes, size_t length) {
    WRITES(REAL(write)(fd, bytes, length));
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) {
    WRITES(REAL(pwrite)(fd, bytes, length, offset));
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
    WRITES(REAL(pwrite64)(fd, bytes, length, offset));
}
