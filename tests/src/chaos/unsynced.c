/* What a power cut leaves of an SQLite database: only what was synced. Preloaded into a process, this
 * copies majordomo.db and its log to $MAJORDOMO_DURABLE at each of their fsync and fdatasync calls; the
 * chaos program puts the copies in place of the files after it killed the process. Everything written
 * since a file's last sync is gone then: the most that a power cut may take. It does not model syncs
 * that the disk itself forgets, nor unsynced writes of which some survive. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void keep(int fd) {
    const char *folder = getenv("MAJORDOMO_DURABLE");
    char link[64], path[PATH_MAX], copy[PATH_MAX + 64], part[PATH_MAX + 80];
    if (!folder) return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return;
    path[length] = 0;
    const char *name = strrchr(path, '/');
    if (!name || strncmp(name, "/majordomo.db", 13) || strstr(name, "-shm")) return;
    snprintf(copy, sizeof copy, "%s%s", folder, name);
    snprintf(part, sizeof part, "%s.part", copy);
    int out = open(part, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (out < 0) abort();
    char block[65536];
    off_t at = 0;
    ssize_t got;
    while ((got = pread(fd, block, sizeof block, at)) > 0) {
        if (write(out, block, got) != got) abort();
        at += got;
    }
    close(out);
    if (rename(part, copy)) abort();
}

static int synced(const char *name, int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    int result = real(fd);
    if (!result) keep(fd);
    return result;
}

int fsync(int fd) { return synced("fsync", fd); }
int fdatasync(int fd) { return synced("fdatasync", fd); }
