/* How much the load client can take: a loop of send(), with nothing else to do.
 *
 *     ceiling PORT PUBLISH_PORT
 *
 * Answers every connection on PORT as a WebSocket or, for the path /sse, as an event stream. Each
 * line that comes on PUBLISH_PORT goes to all of them, and an empty line back.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { REQUEST_BYTES = 8192, EVENTS = 256, BACKLOG = 1024, FILES = 1 << 20, LINE_BYTES = 1 << 16 };
enum kind { UNKNOWN, WEBSOCKET, STREAM, PUBLISHER };

static const char *ANSWERS[] = {
    [WEBSOCKET] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                  "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    [STREAM] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
               "Transfer-Encoding: chunked\r\n\r\n",
};

static char kinds[FILES];
static int highest, epoll_fd;
static char line[LINE_BYTES];
static size_t line_size;

static void fatal(const char *what)
{
    perror(what);
    exit(1);
}

static void watch(int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event))
        fatal("epoll_ctl");
}

static int listen_on(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int yes = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, BACKLOG))
        fatal("listen");
    watch(fd);
    return fd;
}

static void drop(int fd)
{
    kinds[fd] = UNKNOWN;
    close(fd);
}

static void send_all(int fd, const char *data, size_t size)
{
    while (size) {
        ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
        if (sent < 0) {
            drop(fd);
            return;
        }
        data += sent;
        size -= sent;
    }
}

static void spread(enum kind kind, const char *data, size_t size)
{
    for (int fd = 0; fd <= highest; fd++)
        if (kinds[fd] == (char)kind)
            send_all(fd, data, size);
}

static void publish(const char *text, size_t size)
{
    static char frame[LINE_BYTES + 16], event[LINE_BYTES + 32];
    size_t head = 2;
    frame[0] = (char)0x81;
    frame[1] = (char)size;
    if (size > 125) {
        head = 4;
        frame[1] = 126;
        frame[2] = (char)(size >> 8);
        frame[3] = (char)size;
    }
    memcpy(frame + head, text, size);
    spread(WEBSOCKET, frame, head + size);
    int length = snprintf(event, sizeof event, "%zx\r\ndata: %.*s\n\n\r\n", size + 8, (int)size, text);
    spread(STREAM, event, length);
}

static void read_lines(int fd)
{
    ssize_t got = recv(fd, line + line_size, sizeof line - line_size, 0);
    if (got <= 0) {
        drop(fd);
        return;
    }
    line_size += got;
    char *end;
    while ((end = memchr(line, '\n', line_size)) != NULL) {
        publish(line, end - line);
        line_size -= end + 1 - line;
        memmove(line, end + 1, line_size);
        send_all(fd, "\n", 1);
    }
}

/* The client sends its request in one piece, and later only pongs, which are passed over. */
static void read_request(int fd)
{
    char request[REQUEST_BYTES];
    ssize_t got = recv(fd, request, sizeof request, 0);
    if (got <= 0) {
        drop(fd);
    } else if (kinds[fd] == UNKNOWN) {
        kinds[fd] = strncmp(request, "GET /sse", 8) ? WEBSOCKET : STREAM;
        send_all(fd, ANSWERS[(int)kinds[fd]], strlen(ANSWERS[(int)kinds[fd]]));
    }
}

static void take(int listener, enum kind kind)
{
    int yes = 1, fd = accept(listener, NULL, NULL);
    if (fd < 0 || fd >= FILES)
        fatal("accept");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    kinds[fd] = (char)kind;
    if (fd > highest)
        highest = fd;
    watch(fd);
}

int main(int count, char **arguments)
{
    if (count != 3) {
        fprintf(stderr, "ceiling PORT PUBLISH_PORT\n");
        return 2;
    }
    epoll_fd = epoll_create1(0);
    int clients = listen_on(atoi(arguments[1])), publishers = listen_on(atoi(arguments[2]));
    for (;;) {
        struct epoll_event events[EVENTS];
        int ready = epoll_wait(epoll_fd, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == clients)
                take(fd, UNKNOWN);
            else if (fd == publishers)
                take(fd, PUBLISHER);
            else if (kinds[fd] == PUBLISHER)
                read_lines(fd);
            else
                read_request(fd);
        }
    }
}
