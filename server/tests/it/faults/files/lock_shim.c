/* A file system that can't sync directories, nor lock files whose paths end with LOCK_SHIM_ENDING: the error is LOCK_SHIM_ERRNO.
 * Loaded before the C library (LD_PRELOAD), whose functions it stands in front of. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static int is_meant(int fd) {
    char link[64], path[4096];
    const char *ending = getenv("LOCK_SHIM_ENDING");
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (!ending || length < (ssize_t)strlen(ending)) {
        return 0;
    }
    path[length] = 0;
    return strcmp(path + length - strlen(ending), ending) == 0;
}

int flock(int fd, int operation) {
    if (is_meant(fd)) {
        errno = atoi(getenv("LOCK_SHIM_ERRNO"));
        return -1;
    }
    return ((int (*)(int, int))dlsym(RTLD_NEXT, "flock"))(fd, operation);
}

int fsync(int fd) {
    struct stat found;
    if (fstat(fd, &found) == 0 && S_ISDIR(found.st_mode)) {
        errno = EINVAL;
        return -1;
    }
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}
