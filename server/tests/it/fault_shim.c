/* Fails calls that change files below the directory FAULT_SHIM_DIR, as the memory says that the file FAULT_SHIM_FILE holds and the
 * test writes to (support/faults.rs): the n-th call of a kind, and all from there on if it says so; or every call that would
 * take more room than the directory is to have. Counts all such calls. Loaded before the C library (LD_PRELOAD), whose
 * functions it stands in front of. */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { WRITE, SYNC, TRUNCATE, RENAME, UNLINK, CREATE, KINDS };

/* The layout of the file. A test changes `armed` last. */
struct control {
    _Atomic uint32_t armed; /* a bit for each kind that is to fail */
    uint32_t nth;           /* the first call to fail, counted from 1 since it was armed */
    uint32_t times;         /* how many calls fail from there on */
    int32_t error;
    uint64_t room; /* the most bytes that the directory may hold; 0 is without bound */
    _Atomic uint32_t seen;
    _Atomic uint32_t failed;
    _Atomic uint32_t counted[KINDS];
    char ending[64]; /* only of paths with this ending */
};

static struct control *control(void) {
    static struct control *mapped;
    if (!mapped) {
        const char *file = getenv("FAULT_SHIM_FILE");
        long fd = file ? syscall(SYS_openat, AT_FDCWD, file, O_RDWR) : -1;
        void *at = fd < 0 ? MAP_FAILED : mmap(0, sizeof *mapped, PROT_READ | PROT_WRITE, MAP_SHARED, (int)fd, 0);
        if (at == MAP_FAILED) {
            abort();
        }
        syscall(SYS_close, fd);
        mapped = at;
    }
    return mapped;
}

static int is_below(const char *path) {
    const char *directory = getenv("FAULT_SHIM_DIR");
    return directory && strncmp(path, directory, strlen(directory)) == 0;
}

static int is_meant(const char *path, const struct control *c) {
    size_t length = strlen(path), ending = strlen(c->ending);
    return length >= ending && strcmp(path + length - ending, c->ending) == 0;
}

/* Returns whether the call is to fail, with errno set. */
static int fails_on(enum kind kind, const char *path) {
    struct control *c = control();
    if (!is_below(path)) {
        return 0;
    }
    c->counted[kind]++;
    if (!(c->armed & (1u << kind)) || !is_meant(path, c)) {
        return 0;
    }
    uint32_t seen = ++c->seen;
    if (seen < c->nth || seen - c->nth >= c->times) {
        return 0;
    }
    c->failed++;
    errno = c->error;
    return 1;
}

static int path_of(int fd, char path[4096]) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, 4095);
    path[length < 0 ? 0 : length] = 0;
    return length > 0 && path[0] == '/';
}

static uint64_t blocks(const struct stat *file) {
    return (uint64_t)file->st_blocks * 512;
}

static uint64_t held(const char *directory) {
    uint64_t bytes = 0;
    DIR *open = opendir(directory);
    struct dirent *entry;
    struct stat file;
    while (open && (entry = readdir(open))) {
        if (fstatat(dirfd(open), entry->d_name, &file, 0) == 0 && S_ISREG(file.st_mode)) {
            bytes += blocks(&file);
        }
    }
    if (open) {
        closedir(open);
    }
    return bytes;
}

/* Returns whether there is no room for the file to reach that far. */
static int lacks_room(int fd, const char *path, uint64_t end) {
    struct stat file;
    uint64_t room = control()->room;
    if (!room || !is_below(path) || fstat(fd, &file) != 0 || end <= blocks(&file)) {
        return 0;
    }
    uint64_t own = file.st_nlink ? 0 : blocks(&file), more = (end - blocks(&file) + 4095) & ~4095ull;
    if (held(getenv("FAULT_SHIM_DIR")) + own + more <= room) {
        return 0;
    }
    errno = ENOSPC;
    return 1;
}

static int fails(enum kind kind, int fd) {
    char path[4096];
    int before = errno;
    if (path_of(fd, path) && fails_on(kind, path)) {
        return 1;
    }
    errno = before;
    return 0;
}

static int write_fails(int fd, uint64_t end) {
    char path[4096];
    int before = errno;
    if (path_of(fd, path) && (fails_on(WRITE, path) || lacks_room(fd, path, end))) {
        return 1;
    }
    errno = before;
    return 0;
}

static uint64_t end_after(int fd, size_t length) {
    struct stat file;
    int flags = fcntl(fd, F_GETFL);
    if (flags >= 0 && (flags & O_APPEND) && fstat(fd, &file) == 0) {
        return (uint64_t)file.st_size + length;
    }
    off_t at = lseek(fd, 0, SEEK_CUR);
    return at < 0 ? 0 : (uint64_t)at + length;
}

static size_t total(const struct iovec *parts, int count) {
    size_t length = 0;
    for (int at = 0; at < count; at++) {
        length += parts[at].iov_len;
    }
    return length;
}

/* The function of the C library that the one here stands in front of. */
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define UNLESS(fails, call) return (fails) ? -1 : call

ssize_t write(int fd, const void *bytes, size_t length) {
    UNLESS(write_fails(fd, end_after(fd, length)), REAL(write)(fd, bytes, length));
}
ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) {
    UNLESS(write_fails(fd, (uint64_t)offset + length), REAL(pwrite)(fd, bytes, length, offset));
}
ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
    UNLESS(write_fails(fd, (uint64_t)offset + length), REAL(pwrite64)(fd, bytes, length, offset));
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    UNLESS(write_fails(fd, end_after(fd, total(parts, count))), REAL(writev)(fd, parts, count));
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
    UNLESS(write_fails(fd, (uint64_t)offset + total(parts, count)), REAL(pwritev)(fd, parts, count, offset));
}
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) {
    UNLESS(write_fails(fd, (uint64_t)offset + total(parts, count)), REAL(pwritev64)(fd, parts, count, offset));
}

int fsync(int fd) {
    UNLESS(fails(SYNC, fd), REAL(fsync)(fd));
}
int fdatasync(int fd) {
    UNLESS(fails(SYNC, fd), REAL(fdatasync)(fd));
}
int sync_file_range(int fd, off64_t offset, off64_t length, unsigned flags) {
    UNLESS(fails(SYNC, fd), REAL(sync_file_range)(fd, offset, length, flags));
}

static int truncate_fails(int fd, uint64_t length) {
    char path[4096];
    return fails(TRUNCATE, fd) || (path_of(fd, path) && lacks_room(fd, path, length));
}
int ftruncate(int fd, off_t length) {
    UNLESS(truncate_fails(fd, (uint64_t)length), REAL(ftruncate)(fd, length));
}
int ftruncate64(int fd, off64_t length) {
    UNLESS(truncate_fails(fd, (uint64_t)length), REAL(ftruncate64)(fd, length));
}

static int allocate_fails(int fd, uint64_t end) {
    char path[4096];
    return fails(TRUNCATE, fd) || (path_of(fd, path) && lacks_room(fd, path, end));
}
int fallocate(int fd, int mode, off_t offset, off_t length) {
    UNLESS(allocate_fails(fd, (uint64_t)(offset + length)), REAL(fallocate)(fd, mode, offset, length));
}
int fallocate64(int fd, int mode, off64_t offset, off64_t length) {
    UNLESS(allocate_fails(fd, (uint64_t)(offset + length)), REAL(fallocate64)(fd, mode, offset, length));
}

int rename(const char *from, const char *to) {
    UNLESS(fails_on(RENAME, to), REAL(rename)(from, to));
}
int renameat(int from_fd, const char *from, int to_fd, const char *to) {
    UNLESS(fails_on(RENAME, to), REAL(renameat)(from_fd, from, to_fd, to));
}
int renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags) {
    UNLESS(fails_on(RENAME, to), REAL(renameat2)(from_fd, from, to_fd, to, flags));
}
int link(const char *from, const char *to) {
    UNLESS(fails_on(RENAME, to), REAL(link)(from, to));
}
int linkat(int from_fd, const char *from, int to_fd, const char *to, int flags) {
    UNLESS(fails_on(RENAME, to), REAL(linkat)(from_fd, from, to_fd, to, flags));
}
int unlink(const char *path) {
    UNLESS(fails_on(UNLINK, path), REAL(unlink)(path));
}
int unlinkat(int fd, const char *path, int flags) {
    UNLESS(fails_on(UNLINK, path), REAL(unlinkat)(fd, path, flags));
}

/* Opening fails only where it makes a file or empties one. */
#define OPENS(name, call)                                                                                              \
    va_list more;                                                                                                      \
    va_start(more, flags);                                                                                             \
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0;                                          \
    va_end(more);                                                                                                      \
    if (((flags & O_CREAT && access(path, F_OK) != 0) || flags & O_TRUNC) && fails_on(CREATE, path)) {                 \
        return -1;                                                                                                     \
    }                                                                                                                  \
    return call

int open(const char *path, int flags, ...) {
    OPENS(open, REAL(open)(path, flags, mode));
}
int open64(const char *path, int flags, ...) {
    OPENS(open64, REAL(open64)(path, flags, mode));
}
int openat(int fd, const char *path, int flags, ...) {
    OPENS(openat, REAL(openat)(fd, path, flags, mode));
}
int openat64(int fd, const char *path, int flags, ...) {
    OPENS(openat64, REAL(openat64)(fd, path, flags, mode));
}
