/* Notes, in the file that SYNC_SHIM_FILE names, in which order a process writes SQLite's log, syncs it and answers
 * over HTTP with 200. Loaded before the C library (LD_PRELOAD), whose functions it stands in front of.
 *
 * "write" is noted once the write is done, "sync" before and "synced" after a sync, "answer" before the answer leaves:
 * so a sync between a write and an answer in the notes lay between them in fact. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static void note(const char *event) {
    const char *path = getenv("SYNC_SHIM_FILE");
    /* System calls, because open and write would come back here. */
    long file = path ? syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND, 0600) : -1;
    if (file < 0 || syscall(SYS_write, file, event, strlen(event)) < 0) {
        abort();
    }
    syscall(SYS_close, file);
}

static int is_log(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path);
    return length >= 4 && memcmp(path + length - 4, "-wal", 4) == 0;
}

static void note_answer(const void *bytes, size_t length) {
    static const char ok[] = "HTTP/1.1 200";
    if (length >= sizeof ok - 1 && memcmp(bytes, ok, sizeof ok - 1) == 0) {
        note("answer\n");
    }
}

static void note_answer_in(const struct iovec *parts, size_t count) {
    if (count > 0) {
        note_answer(parts[0].iov_base, parts[0].iov_len);
    }
}

/* The function of the C library that the one here stands in front of. */
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define WRITES(call)                                                                                                   \
    ssize_t written = call;                                                                                            \
    if (is_log(fd)) {                                                                                                  \
        note("write\n");                                                                                               \
    }                                                                                                                  \
    return written

#define SYNCS(call)                                                                                                    \
    int noted = is_log(fd);                                                                                            \
    if (noted) {                                                                                                       \
        note("sync\n");                                                                                                \
    }                                                                                                                  \
    int result = call;                                                                                                 \
    if (noted) {                                                                                                       \
        note("synced\n");                                                                                              \
    }                                                                                                                  \
    return result

ssize_t write(int fd, const void *bytes, size_t length) {
    note_answer(bytes, length);
    WRITES(REAL(write)(fd, bytes, length));
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) {
    WRITES(REAL(pwrite)(fd, bytes, length, offset));
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
    WRITES(REAL(pwrite64)(fd, bytes, length, offset));
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    note_answer_in(parts, count);
    WRITES(REAL(writev)(fd, parts, count));
}

int fsync(int fd) {
    SYNCS(REAL(fsync)(fd));
}

int fdatasync(int fd) {
    SYNCS(REAL(fdatasync)(fd));
}

ssize_t send(int socket, const void *bytes, size_t length, int flags) {
    note_answer(bytes, length);
    return REAL(send)(socket, bytes, length, flags);
}

ssize_t sendto(int socket, const void *bytes, size_t length, int flags, const struct sockaddr *to, socklen_t to_length) {
    note_answer(bytes, length);
    return REAL(sendto)(socket, bytes, length, flags, to, to_length);
}

ssize_t sendmsg(int socket, const struct msghdr *message, int flags) {
    note_answer_in(message->msg_iov, message->msg_iovlen);
    return REAL(sendmsg)(socket, message, flags);
}
