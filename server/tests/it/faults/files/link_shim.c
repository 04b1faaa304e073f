/* A file system without hard links. Loaded before the C library (LD_PRELOAD), whose functions it stands in front of. */

#include <errno.h>

int link(const char *from, const char *to) {
    (void)from;
    (void)to;
    errno = EPERM;
    return -1;
}

int linkat(int from_directory, const char *from, int to_directory, const char *to, int flags) {
    (void)from_directory;
    (void)to_directory;
    (void)flags;
    return link(from, to);
}
