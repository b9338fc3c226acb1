/* Reads WebSocket frames from many sockets until enough have come. Python spends more on a frame than the fastest
   servers do; this spends little beside the two system calls. */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

enum { MOST = 1 << 20, LONGEST = 1 << 16, AT_ONCE = 256, PING = 9, PONG = 10 };
static unsigned left[MOST]; /* by descriptor: what is still to come of a frame that was cut */

/* Client frames are masked; a mask of zeros changes nothing. */
static void reply(int fd, int opcode, const unsigned char *payload, unsigned size) {
    unsigned char frame[6 + 125] = {(unsigned char)(0x80 | opcode), (unsigned char)(0x80 | size)};
    memcpy(frame + 6, payload, size);
    send(fd, frame, 6 + size, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Messages that ended in these bytes; -1 where a head was cut in two. */
static long messages(int fd, const unsigned char *at, const unsigned char *end) {
    long found = 0;
    while (at < end) {
        if (left[fd]) {
            unsigned part = left[fd] < end - at ? left[fd] : (unsigned)(end - at);
            at += part;
            left[fd] -= part;
            if (!left[fd]) found++;
            continue;
        }
        if (end - at < 2) return -1;
        int opcode = at[0] & 15;
        unsigned size = at[1], head = size < 126 ? 2 : 4;
        if (size == 127 || end - at < head) return -1;
        if (size == 126) size = (unsigned)at[2] << 8 | at[3];
        at += head;
        if (opcode > 7 || (size == 1 && *at == '2')) { /* control frames, and Engine.IO's own ping */
            if (end - at < size) return -1;
            if (opcode == PING) reply(fd, PONG, at, size);
            if (opcode < 8) reply(fd, opcode, (const unsigned char *)"3", 1);
            at += size;
        } else if (size) {
            left[fd] = size;
        } else {
            found++;
        }
    }
    return found;
}

static long now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* How many messages have come: those wanted, or fewer when time is up; -1 where they cannot be told apart. */
long count(int poll, long wanted, long within_ms) {
    static unsigned char buffer[LONGEST];
    struct epoll_event ready[AT_ONCE];
    long found = 0, end = now_ms() + within_ms;
    while (found < wanted && now_ms() < end) {
        int events = epoll_wait(poll, ready, AT_ONCE, 50);
        for (int n = 0; n < events; n++) {
            int fd = ready[n].data.fd;
            ssize_t got = recv(fd, buffer, LONGEST, MSG_DONTWAIT);
            if (got == 0 || (got < 0 && errno != EAGAIN)) epoll_ctl(poll, EPOLL_CTL_DEL, fd, NULL);
            if (got <= 0) continue;
            long more = messages(fd, buffer, buffer + got);
            if (more < 0) return -1;
            found += more;
        }
    }
    return found;
}
