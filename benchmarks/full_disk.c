/* A disk that is full from a chosen write on. Loaded before all other libraries (LD_PRELOAD): whoever writes, it sees. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>
/* Below `place`, every call that asks the disk for room fails from the `allowed`th on. */
static char place[PATH_MAX];
static long allowed = -1, asked = 0;
void full_disk_after(const char *where, long calls) { strncpy(place, where, PATH_MAX - 1); allowed = calls; asked = 0; }
long full_disk_asked(void) { return asked; }
static int full(const char *path) {
    if (allowed < 0 || strncmp(path, place, strlen(place))) return 0;
    if (++asked <= allowed) return 0;
    errno = ENOSPC;
    return 1;
}
static int full_file(int file) {
    char link[64], path[PATH_MAX];
    if (allowed < 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return full(path);
}
#define REAL(result, name, ...) static result (*real)(__VA_ARGS__); if (!real) real = dlsym(RTLD_NEXT, #name)
ssize_t write(int f, const void *b, size_t n) { REAL(ssize_t, write, int, const void *, size_t); return full_file(f) ? -1 : real(f, b, n); }
ssize_t pwrite(int f, const void *b, size_t n, off_t o) { REAL(ssize_t, pwrite, int, const void *, size_t, off_t); return full_file(f) ? -1 : real(f, b, n, o); }
ssize_t pwrite64(int f, const void *b, size_t n, off_t o) { REAL(ssize_t, pwrite64, int, const void *, size_t, off_t); return full_file(f) ? -1 : real(f, b, n, o); }
struct iovec;
ssize_t writev(int f, const struct iovec *v, int n) { REAL(ssize_t, writev, int, const struct iovec *, int); return full_file(f) ? -1 : real(f, v, n); }
ssize_t sendfile(int o, int i, off_t *p, size_t n) { REAL(ssize_t, sendfile, int, int, off_t *, size_t); return full_file(o) ? -1 : real(o, i, p, n); }
ssize_t sendfile64(int o, int i, off_t *p, size_t n) { REAL(ssize_t, sendfile64, int, int, off_t *, size_t); return full_file(o) ? -1 : real(o, i, p, n); }
ssize_t copy_file_range(int i, off_t *a, int o, off_t *b, size_t n, unsigned f) { REAL(ssize_t, copy_file_range, int, off_t *, int, off_t *, size_t, unsigned); return full_file(o) ? -1 : real(i, a, o, b, n, f); }
int ftruncate(int f, off_t n) { REAL(int, ftruncate, int, off_t); return full_file(f) ? -1 : real(f, n); }
int ftruncate64(int f, off_t n) { REAL(int, ftruncate64, int, off_t); return full_file(f) ? -1 : real(f, n); }
int posix_fallocate(int f, off_t o, off_t n) { REAL(int, posix_fallocate, int, off_t, off_t); return full_file(f) ? ENOSPC : real(f, o, n); }
int fsync(int f) { REAL(int, fsync, int); return full_file(f) ? -1 : real(f); }
int mkdir(const char *p, mode_t m) { REAL(int, mkdir, const char *, mode_t); return full(p) ? -1 : real(p, m); }
int rename(const char *a, const char *b) { REAL(int, rename, const char *, const char *); return full(b) ? -1 : real(a, b); }
#define OPEN(name) int name(const char *p, int flags, ...) { \
    REAL(int, name, const char *, int, ...); va_list l; va_start(l, flags); mode_t m = va_arg(l, mode_t); va_end(l); \
    return (flags & O_CREAT) && full(p) ? -1 : real(p, flags, m); }
#define OPENAT(name) int name(int d, const char *p, int flags, ...) { \
    REAL(int, name, int, const char *, int, ...); va_list l; va_start(l, flags); mode_t m = va_arg(l, mode_t); va_end(l); \
    return (flags & O_CREAT) && full(p) ? -1 : real(d, p, flags, m); }
OPEN(open) OPEN(open64) OPENAT(openat) OPENAT(openat64)
