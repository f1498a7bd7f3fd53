/* Faults for one process, by LD_PRELOAD: a file in shared memory says which; tests/support/shim/__init__.py writes it.
 *
 * Only what the process calls through the C library is reached, which for Python is everything.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct control {                    /* little-endian, 8 bytes each; the same in __init__.py */
    _Atomic int64_t clock_ns;       /* added to the wall clock */
    _Atomic int64_t failing_syncs;  /* so many of the next fsyncs fail with EIO; those after them succeed */
    _Atomic int64_t failed_syncs;   /* how many did */
    _Atomic int64_t sync_us;        /* each fsync takes that much longer */
    _Atomic int64_t write_errno;    /* writes, preallocations and new files fail with it; 0: none */
    _Atomic int64_t failed_writes;  /* how many did */
};

static struct control *control;
static const char *below = "";      /* only what is opened below this directory is refused */

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("SHIM_CONTROL");
    if (getenv("SHIM_BELOW")) below = getenv("SHIM_BELOW");
    if (!path) return;
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0) return;
    void *mapped = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED) control = mapped;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int sync_fails(void) {
    if (!control) return 0;
    int64_t late = control->sync_us;
    if (late > 0) {
        struct timespec pause = {late / 1000000, late % 1000000 * 1000};
        nanosleep(&pause, NULL);
    }
    int64_t left = control->failing_syncs;
    while (left > 0)
        if (atomic_compare_exchange_weak(&control->failing_syncs, &left, left - 1)) {
            control->failed_syncs++;
            errno = EIO;
            return 1;
        }
    return 0;
}

static int write_fails(void) {
    if (!control || !control->write_errno) return 0;
    control->failed_writes++;
    errno = (int)control->write_errno;
    return 1;
}

static int is_below(const char *path) { return *below && strncmp(path, below, strlen(below)) == 0; }

static int open_fails(const char *path, int flags) {
    return (flags & (O_WRONLY | O_RDWR | O_CREAT)) && is_below(path) && write_fails();
}

int fsync(int file) { return sync_fails() ? -1 : REAL(fsync)(file); }
int fdatasync(int file) { return sync_fails() ? -1 : REAL(fdatasync)(file); }

ssize_t pwrite(int file, const void *from, size_t size, off_t at) {
    return write_fails() ? -1 : REAL(pwrite)(file, from, size, at);
}
ssize_t pwrite64(int file, const void *from, size_t size, off64_t at) {
    return write_fails() ? -1 : REAL(pwrite64)(file, from, size, at);
}
ssize_t pwritev(int file, const struct iovec *from, int count, off_t at) {
    return write_fails() ? -1 : REAL(pwritev)(file, from, count, at);
}
ssize_t pwritev64(int file, const struct iovec *from, int count, off64_t at) {
    return write_fails() ? -1 : REAL(pwritev64)(file, from, count, at);
}
ssize_t pwritev64v2(int file, const struct iovec *from, int count, off64_t at, int flags) {
    return write_fails() ? -1 : REAL(pwritev64v2)(file, from, count, at, flags);
}
int posix_fallocate64(int file, off64_t at, off64_t size) {
    return write_fails() ? errno : REAL(posix_fallocate64)(file, at, size);
}
int posix_fallocate(int file, off_t at, off_t size) {
    return write_fails() ? errno : REAL(posix_fallocate)(file, at, size);
}
int rename(const char *from, const char *to) {
    return is_below(to) && write_fails() ? -1 : REAL(rename)(from, to);
}

#define OPEN(name)                                                     \
    int name(const char *path, int flags, ...) {                       \
        va_list more;                                                  \
        va_start(more, flags);                                         \
        mode_t mode = va_arg(more, mode_t);                            \
        va_end(more);                                                  \
        return open_fails(path, flags) ? -1 : REAL(name)(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = REAL(clock_gettime)(clock, now);
    if (result == 0 && control && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t ns = now->tv_sec * INT64_C(1000000000) + now->tv_nsec + control->clock_ns;
        now->tv_sec = ns / 1000000000;
        now->tv_nsec = ns % 1000000000;
    }
    return result;
}

int gettimeofday(struct timeval *now, void *zone) {
    int result = REAL(gettimeofday)(now, zone);
    if (result == 0 && control) {
        int64_t us = now->tv_sec * INT64_C(1000000) + now->tv_usec + control->clock_ns / 1000;
        now->tv_sec = us / 1000000;
        now->tv_usec = us % 1000000;
    }
    return result;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
