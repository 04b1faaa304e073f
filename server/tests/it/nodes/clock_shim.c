/* Shifts a process's wall clock by CLOCK_SHIM_SECONDS, or by the number in the file that CLOCK_SHIM_FILE names, which may
 * change while the process runs. Preloaded (LD_PRELOAD), it replaces the C library's function. The monotonic clock stays as
 * it is. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long shift(void) {
    const char *seconds = getenv("CLOCK_SHIM_SECONDS"), *name = getenv("CLOCK_SHIM_FILE");
    char text[32] = "0";
    int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (file >= 0) {
        ssize_t length = read(file, text, sizeof text - 1);
        text[length > 0 ? length : 0] = 0;
        close(file);
        return atol(text);
    }
    return seconds ? atol(seconds) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    /* The system call: the library's function would recurse into this one. */
    int result = (int)syscall(SYS_clock_gettime, clock, time);
    if (result == 0 && clock == CLOCK_REALTIME) {
        time->tv_sec += shift();
    }
    return result;
}
