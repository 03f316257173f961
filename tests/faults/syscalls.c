/* Preloaded into a process under test: dies, or has a full disk, at the n-th effect that others can see.
 *
 * An effect is a write to, or a rename, link or removal of, a file under `root`, and whatever is sent to PostgreSQL's
 * Unix socket (statements and commits). Nothing counts before faults_arm() is called. Modes: 1 count only, 2 kill
 * before the effect, 3 kill after it, 4 kill in the middle of it (half of the bytes), 5 from this effect on no file
 * takes a byte (ENOSPC), 6 stop before it until somebody says SIGCONT. Effects are of four strata: 1 sent to the ledger,
 * 2 sent to the online store or Feast's registry, 3 bytes written to files, 4 names made, moved or removed; with `only`
 * those of one stratum alone are counted. faults_clock() sets the process's clock forward or back by some seconds.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { OFF, COUNT, BEFORE, AFTER, TORN, FULL, PAUSE };
static char root[PATH_MAX];
static atomic_long effects;
static long at;
static int mode = OFF, report = -1, only = 0;
enum { LEDGER = 1, ONLINE, BYTES, NAMES, SOCKETS = 4096 };
static char database[SOCKETS];

void faults_arm(const char *where, long point, int how, int fd, int stratum) {
    snprintf(root, sizeof root, "%s", where);
    effects = 0; at = point; report = fd; mode = how; only = stratum;
}

/* A connection says in its first message which database it is for. */
static int stratum_of(int fd, const void *data, size_t size) {
    if (fd < 0 || fd >= SOCKETS) return LEDGER;
    const char *found = size > 16 ? memmem(data, size, "database\0", 9) : 0;
    if (found) database[fd] = memmem(found, size - (found - (const char *)data), "ledger", 6) ? LEDGER : ONLINE;
    return database[fd] ? database[fd] : LEDGER;
}
long faults_count(void) { return effects; }

static int under(const char *path) { return path && root[0] && strncmp(path, root, strlen(root)) == 0; }

/* 1 a file of ours, 2 PostgreSQL, 0 neither; `name` says which. */
static int kind(int fd, char *name, size_t size) {
    struct stat state;
    if (fstat(fd, &state)) return 0;
    if (S_ISREG(state.st_mode)) {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(link, name, size - 1);
        if (length < 0) return 0;
        name[length] = 0;
        return under(name) ? 1 : 0;
    }
    if (S_ISSOCK(state.st_mode)) {
        struct sockaddr_un peer;
        socklen_t length = sizeof peer;
        if (getpeername(fd, (struct sockaddr *)&peer, &length) || peer.sun_family != AF_UNIX) return 0;
        if (!strstr(peer.sun_path, "PGSQL")) return 0;
        snprintf(name, size, "postgresql");
        return 2;
    }
    return 0;
}

static void note(const char *what, const char *name) {
    char words[PATH_MAX + 64];
    int length = snprintf(words, sizeof words, "%s %s", what, name);
    if (report >= 0) syscall(SYS_write, report, words, length);
}

static void die(const char *what, const char *name) {
    note(what, name);
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;) pause();
}

/* Counts an effect. 0: go on; AFTER or TORN: it is this one, and the caller dies; FULL: there is no space. */
static int effect(const char *what, const char *name, int takes_space, int stratum) {
    if (only && stratum != only) return 0;
    long number = atomic_fetch_add(&effects, 1) + 1;
    if (mode == FULL) return takes_space && number >= at ? FULL : 0;
    if (mode < BEFORE || number != at) return 0;
    if (mode == PAUSE) { note(what, name); syscall(SYS_kill, getpid(), SIGSTOP); return 0; }
    if (mode == BEFORE) die(what, name);
    return mode;
}

#define REAL(type, name, ...) static type (*real)(__VA_ARGS__); if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

#define WRITES(call, half, length, first) \
    if (mode == OFF) return call; \
    char name[PATH_MAX]; int sort = kind(fd, name, sizeof name); \
    if (!sort) return call; \
    int now = effect(sort == 2 ? "send" : "write", name, sort == 1, sort == 2 ? stratum_of(fd, first, length) : BYTES); \
    if (now == FULL) { errno = ENOSPC; return -1; } \
    if (now == TORN && sort == 1 && (length) > 1) { half; die("torn write", name); } \
    ssize_t done = call; int kept = errno; \
    if (now) die(sort == 2 ? "send" : "write", name); \
    errno = kept; return done

ssize_t write(int fd, const void *data, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t);
    WRITES(real(fd, data, size), (void)!real(fd, data, size / 2), size, data);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
    WRITES(real(fd, data, size, offset), (void)!real(fd, data, size / 2, offset), size, data);
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    WRITES(real(fd, parts, count), (void)!real(fd, parts, 1), count, parts);
}
ssize_t send(int fd, const void *data, size_t size, int flags) {
    REAL(ssize_t, "send", int, const void *, size_t, int);
    WRITES(real(fd, data, size, flags), (void)0, size, data);
}

#define MOVES(what, path, call, takes_space) \
    if (mode == OFF || !under(path)) return call; \
    int now = effect(what, path, takes_space, NAMES); \
    if (now == FULL) { errno = ENOSPC; return -1; } \
    int done = call; int kept = errno; \
    if (now) die(what, path); \
    errno = kept; return done

int rename(const char *from, const char *to) {
    REAL(int, "rename", const char *, const char *);
    MOVES("rename", to, real(from, to), 0);
}
int link(const char *from, const char *to) {
    REAL(int, "link", const char *, const char *);
    MOVES("link", to, real(from, to), 1);
}
int linkat(int a, const char *from, int b, const char *to, int flags) {
    REAL(int, "linkat", int, const char *, int, const char *, int);
    MOVES("link", to, real(a, from, b, to, flags), 1);
}
int unlink(const char *path) {
    REAL(int, "unlink", const char *);
    MOVES("remove", path, real(path), 0);
}
int mkdir(const char *path, mode_t bits) {
    REAL(int, "mkdir", const char *, mode_t);
    MOVES("mkdir", path, real(path, bits), 1);
}

/* The wall clock; what measures durations (CLOCK_MONOTONIC) goes on as it was. */
static atomic_long ahead;
void faults_clock(long seconds) { ahead = seconds; }

int clock_gettime(clockid_t clock, struct timespec *now) {
    REAL(int, "clock_gettime", clockid_t, struct timespec *);
    int failed = real(clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += ahead;
    return failed;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    REAL(int, "gettimeofday", struct timeval *, void *);
    int failed = real(now, zone);
    if (!failed) now->tv_sec += ahead;
    return failed;
}
time_t time(time_t *where) {
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    if (where) *where = now.tv_sec;
    return now.tv_sec;
}
