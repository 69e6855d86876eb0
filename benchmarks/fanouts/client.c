/* The load client of the fan-out benchmark: many WebSockets or event streams in one epoll loop.
 *
 *     client ws|sse PORT PATH CONNECTIONS WINDOW GREETED TOKENS
 *
 * Opens CONNECTIONS, at most WINDOW handshakes at once. GREETED 1: a connection is open when its
 * first message has come, else when the head of the answer has. TOKENS: a file with one JWT a line,
 * one for each connection, or "-". It gives up when no handshake ends for 20 s.
 *
 * Prints one line of JSON when all are open, then one in answer to each line on stdin:
 *     wait N SECONDS  N messages have come since the last reset, or the time is over
 *     stats           what has come since the last reset
 *     reset           begin to count anew
 *     quit            end
 *
 * A message is a text frame or an event that holds "sent_ns": and CLOCK_MONOTONIC in nanoseconds.
 * Others (greetings, heartbeats) are counted apart. Protocol pings are answered, nothing else is.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SCRATCH_BYTES = 1 << 20, EVENTS = 1024, PORTS_PER_SOURCE = 20000, TOKEN_BYTES = 4096 };
#define STALLED_NS 20000000000
enum state { CONNECTING, SHAKING, GREETING, OPEN, CLOSED };

#define MARKER "\"sent_ns\":"

struct bytes {
    char *at;
    size_t size;
};

/* `rest`: received and not yet parsed. `part`: the beginning of a message whose end is to come. */
struct connection {
    int fd;
    enum state state;
    int chunked;
    struct bytes rest, part;
};

static int is_sse, port, total, window, greeted;
static const char *path;
static FILE *tokens;
static struct connection *connections;
static int started, opened, failed, lost, epoll_fd;
static char why[128];
static char scratch[SCRATCH_BYTES];

static int64_t *latencies;
static size_t messages, capacity, others;
static uint64_t text_bytes;
static int64_t first_sent, last_received, now;

static int64_t clock_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void fatal(const char *what)
{
    perror(what);
    exit(1);
}

static void keep(struct bytes *bytes, const char *from, size_t size)
{
    if (size == 0) {
        free(bytes->at);
        bytes->at = NULL;
    } else {
        char *at = malloc(size);
        if (at == NULL)
            fatal("malloc");
        memcpy(at, from, size);
        free(bytes->at);
        bytes->at = at;
    }
    bytes->size = size;
}

static void append(struct bytes *bytes, const char *from, size_t size)
{
    if (size == 0)
        return;
    bytes->at = realloc(bytes->at, bytes->size + size);
    if (bytes->at == NULL)
        fatal("realloc");
    memcpy(bytes->at + bytes->size, from, size);
    bytes->size += size;
}

static void close_connection(struct connection *one, const char *reason)
{
    if (one->state == OPEN)
        lost++;
    else
        failed++;
    if (why[0] == 0)
        snprintf(why, sizeof why, "%s", reason);
    /* It stands in JSON. */
    for (char *at = why; *at; at++)
        if (*at == '"' || *at == '\\' || *at < ' ')
            *at = ' ';
    one->state = CLOSED;
    close(one->fd);
    keep(&one->rest, NULL, 0);
    keep(&one->part, NULL, 0);
}

static void record(int64_t sent, size_t size)
{
    if (messages == capacity) {
        capacity = capacity ? capacity * 2 : 1 << 20;
        latencies = realloc(latencies, capacity * sizeof *latencies);
        if (latencies == NULL)
            fatal("realloc");
    }
    latencies[messages++] = now - sent;
    text_bytes += size;
    if (first_sent == 0 || sent < first_sent)
        first_sent = sent;
    last_received = now;
}

/* Take the text of one whole frame or event. */
static void take_message(struct connection *one, const char *text, size_t size)
{
    if (one->state == GREETING) {
        one->state = OPEN;
        opened++;
    }
    const char *marker = memmem(text, size, MARKER, sizeof MARKER - 1);
    if (marker == NULL) {
        others++;
        return;
    }
    const char *digit = marker + sizeof MARKER - 1, *end = text + size;
    int64_t sent = 0;
    while (digit < end && *digit == ' ')
        digit++;
    while (digit < end && isdigit((unsigned char)*digit))
        sent = sent * 10 + *digit++ - '0';
    record(sent, size);
}

static void send_pong(struct connection *one, const char *payload, size_t size)
{
    char pong[6 + 125] = {(char)0x8a, (char)(0x80 | size), 0, 0, 0, 0};
    memcpy(pong + 6, payload, size);
    /* A pong that finds no room is dropped: the next ping asks again. */
    (void)!send(one->fd, pong, 6 + size, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void take_frame(struct connection *one, int first, const char *payload, size_t size)
{
    int opcode = first & 15, final = first & 128;
    if (opcode == 8)
        close_connection(one, "the server closed the WebSocket");
    else if (opcode == 9)
        send_pong(one, payload, size);
    else if (opcode <= 2 && final && opcode != 0)
        take_message(one, payload, size);
    else if (opcode <= 2) {
        append(&one->part, payload, size);
        if (final) {
            take_message(one, one->part.at, one->part.size);
            keep(&one->part, NULL, 0);
        }
    }
}

/* Parse whole frames (RFC 6455 section 5.2); return how many bytes they took. */
static size_t parse_frames(struct connection *one, const char *data, size_t size)
{
    size_t at = 0;
    while (one->state != CLOSED && size - at >= 2) {
        const unsigned char *frame = (const unsigned char *)data + at;
        uint64_t length = frame[1] & 127;
        size_t head = length == 127 ? 10 : length == 126 ? 4 : 2;
        if (frame[1] & 128 || ((frame[0] & 8) && length > 125)) {
            close_connection(one, "a malformed frame");
            break;
        }
        if (size - at < head)
            break;
        if (head > 2) {
            length = 0;
            for (size_t i = 2; i < head; i++)
                length = length << 8 | frame[i];
        }
        if (size - at - head < length)
            break;
        take_frame(one, frame[0], data + at + head, length);
        at += head + length;
    }
    return at;
}

/* Take whole events, which end with an empty line; return how many bytes they took. */
static size_t parse_events(struct connection *one, const char *data, size_t size)
{
    size_t begin = 0, line = 0;
    const char *end;
    int has_data = 0;
    while ((end = memchr(data + line, '\n', size - line)) != NULL) {
        size_t next = end - data + 1, length = next - line - 1;
        if (length && data[line + length - 1] == '\r')
            length--;
        if (length >= 5 && memcmp(data + line, "data:", 5) == 0)
            has_data = 1;
        if (length == 0) {
            if (has_data)
                take_message(one, data + begin, next - begin);
            begin = next;
            has_data = 0;
        }
        line = next;
    }
    return begin;
}

static void take_body(struct connection *one, const char *data, size_t size)
{
    size_t taken;
    if (one->part.size == 0) {
        taken = parse_events(one, data, size);
        keep(&one->part, data + taken, size - taken);
        return;
    }
    append(&one->part, data, size);
    taken = parse_events(one, one->part.at, one->part.size);
    if (taken)
        keep(&one->part, one->part.at + taken, one->part.size - taken);
}

/* Take whole chunks (RFC 9112 section 7.1); return how many bytes they took. */
static size_t parse_chunks(struct connection *one, const char *data, size_t size)
{
    size_t at = 0;
    const char *end;
    while ((end = memmem(data + at, size - at, "\r\n", 2)) != NULL) {
        char *digits_end;
        size_t body = end - data + 2;
        size_t length = strtoul(data + at, &digits_end, 16);
        if (digits_end == data + at) {
            close_connection(one, "a malformed chunk");
            break;
        }
        if (length == 0) {
            close_connection(one, "the server ended the stream");
            break;
        }
        if (size - body < length + 2)
            break;
        take_body(one, data + body, length);
        at = body + length + 2;
    }
    return at;
}

static int has_header(const char *head, size_t size, const char *line)
{
    size_t length = strlen(line);
    for (size_t at = 0; at + length <= size; at++)
        if (strncasecmp(head + at, line, length) == 0)
            return 1;
    return 0;
}

/* Take the head of the answer; return its size, or 0 when it is not whole. */
static size_t parse_head(struct connection *one, const char *data, size_t size)
{
    const char *end = memmem(data, size, "\r\n\r\n", 4);
    if (end == NULL)
        return 0;
    size_t head = end - data + 4;
    if (strncmp(data, is_sse ? "HTTP/1.1 200" : "HTTP/1.1 101", 12) != 0) {
        char line[64];
        snprintf(line, sizeof line, "%.*s", (int)strcspn(data, "\r\n"), data);
        close_connection(one, line);
        return head;
    }
    one->chunked = has_header(data, head, "\ntransfer-encoding: chunked");
    one->state = greeted ? GREETING : OPEN;
    opened += !greeted;
    return head;
}

static size_t parse(struct connection *one, const char *data, size_t size)
{
    size_t head = 0;
    if (one->state == SHAKING)
        head = parse_head(one, data, size);
    if (one->state == SHAKING || one->state == CLOSED)
        return head;
    data += head;
    size -= head;
    if (!is_sse)
        return head + parse_frames(one, data, size);
    if (one->chunked)
        return head + parse_chunks(one, data, size);
    take_body(one, data, size);
    return head + size;
}

static void read_some(struct connection *one)
{
    size_t held = one->rest.size;
    /* One byte stays free, so that numbers always end. */
    ssize_t got = recv(one->fd, scratch + held, SCRATCH_BYTES - 1 - held, MSG_DONTWAIT);
    if (got <= 0) {
        if (got == 0 || (errno != EAGAIN && errno != EINTR))
            close_connection(one, got ? strerror(errno) : "the server closed the connection");
        return;
    }
    now = clock_ns();
    memcpy(scratch, one->rest.at ? one->rest.at : "", held);
    size_t size = held + got;
    scratch[size] = 0;
    size_t taken = parse(one, scratch, size);
    if (one->state == CLOSED)
        return;
    if (held || size != taken)
        keep(&one->rest, scratch + taken, size - taken);
    if (size - taken >= SCRATCH_BYTES - 1)
        close_connection(one, "a message that is too large");
}

static void watch(struct connection *one, int how, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = one};
    if (epoll_ctl(epoll_fd, how, one ? one->fd : STDIN_FILENO, &event))
        fatal("epoll_ctl");
}

static void send_request(struct connection *one)
{
    char request[TOKEN_BYTES + 1024], token[TOKEN_BYTES] = "", credentials[TOKEN_BYTES + 32] = "";
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(one->fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error) {
        close_connection(one, strerror(error));
        return;
    }
    if (tokens && fgets(token, sizeof token, tokens)) {
        token[strcspn(token, "\n")] = 0;
        snprintf(credentials, sizeof credentials, "Authorization: Bearer %s\r\n", token);
    }
    const char *upgrade = is_sse ? "Accept: text/event-stream\r\n"
                                : "Connection: Upgrade\r\nUpgrade: websocket\r\n"
                                  "Sec-WebSocket-Version: 13\r\n"
                                  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    int size = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%s%s\r\n",
                        path, port, upgrade, credentials);
    if (send(one->fd, request, size, MSG_NOSIGNAL) != size) {
        close_connection(one, "the request was not taken");
        return;
    }
    one->state = SHAKING;
    watch(one, EPOLL_CTL_MOD, EPOLLIN);
}

static void start_connection(struct connection *one, int number)
{
    struct sockaddr_in source = {.sin_family = AF_INET}, server = {.sin_family = AF_INET};
    int yes = 1;
    one->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (one->fd < 0)
        fatal("socket");
    setsockopt(one->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    setsockopt(one->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
    source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + number / PORTS_PER_SOURCE);
    if (bind(one->fd, (struct sockaddr *)&source, sizeof source))
        fatal("bind");
    server.sin_port = htons(port);
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    one->state = CONNECTING;
    watch(one, EPOLL_CTL_ADD, EPOLLOUT);
    if (connect(one->fd, (struct sockaddr *)&server, sizeof server) && errno != EINPROGRESS)
        close_connection(one, strerror(errno));
}

/* The rest of the input that is not yet a whole line. */
static char input[4096];
static size_t input_size;
static size_t wanted;
static int64_t deadline;

static int by_size(const void *left, const void *right)
{
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

static double percentile(double share)
{
    return messages ? latencies[(size_t)(share * (double)(messages - 1))] / 1e9 : 0;
}

static void print_counts(void)
{
    printf("{\"messages\": %zu, \"others\": %zu, \"lost\": %d, \"failed\": %d, \"why\": \"%s\"}\n",
           messages, others, lost, failed, why);
}

static void print_stats(void)
{
    qsort(latencies, messages, sizeof *latencies, by_size);
    printf("{\"messages\": %zu, \"others\": %zu, \"lost\": %d, \"text_bytes\": %llu, "
           "\"seconds\": %.9f, \"p50\": %.9f, \"p99\": %.9f, \"max\": %.9f}\n",
           messages, others, lost, (unsigned long long)text_bytes,
           (last_received - first_sent) / 1e9, percentile(0.5), percentile(0.99), percentile(1));
}

static void reset(void)
{
    messages = others = 0;
    text_bytes = 0;
    first_sent = last_received = 0;
    print_counts();
}

static void obey(const char *line)
{
    double seconds;
    if (sscanf(line, "wait %zu %lf", &wanted, &seconds) == 2)
        deadline = clock_ns() + (int64_t)(seconds * 1e9);
    else if (strcmp(line, "stats") == 0)
        print_stats();
    else if (strcmp(line, "reset") == 0)
        reset();
    else
        exit(0);
}

static void read_commands(void)
{
    ssize_t got = read(STDIN_FILENO, input + input_size, sizeof input - 1 - input_size);
    if (got <= 0)
        exit(0);
    input_size += got;
    char *end;
    while ((end = memchr(input, '\n', input_size)) != NULL) {
        *end = 0;
        obey(input);
        input_size -= end + 1 - input;
        memmove(input, end + 1, input_size);
    }
}

static void turn(int timeout)
{
    struct epoll_event events[EVENTS];
    int count = epoll_wait(epoll_fd, events, EVENTS, timeout);
    for (int i = 0; i < count; i++) {
        struct connection *one = events[i].data.ptr;
        if (one == NULL)
            read_commands();
        else if (one->state == CONNECTING)
            send_request(one);
        else if (one->state != CLOSED)
            read_some(one);
    }
}

static void open_all(void)
{
    int64_t begin = clock_ns(), moved = begin;
    int settled = 0;
    while (settled < total && clock_ns() - moved < STALLED_NS) {
        while (started < total && started - settled < window) {
            start_connection(&connections[started], started);
            started++;
        }
        turn(1000);
        if (opened + failed > settled)
            moved = clock_ns();
        settled = opened + failed;
    }
    printf("{\"opened\": %d, \"failed\": %d, \"why\": \"%s\", \"seconds\": %.9f}\n", opened, failed,
           why, (clock_ns() - begin) / 1e9);
}

static void serve_commands(void)
{
    watch(NULL, EPOLL_CTL_ADD, EPOLLIN);
    for (;;) {
        turn(deadline ? 10 : -1);
        if (deadline && (messages >= wanted || clock_ns() > deadline)) {
            deadline = 0;
            print_counts();
        }
    }
}

int main(int count, char **arguments)
{
    if (count != 8) {
        fprintf(stderr, "client ws|sse PORT PATH CONNECTIONS WINDOW GREETED TOKENS\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    is_sse = strcmp(arguments[1], "sse") == 0;
    port = atoi(arguments[2]);
    path = arguments[3];
    total = atoi(arguments[4]);
    window = atoi(arguments[5]);
    greeted = atoi(arguments[6]);
    tokens = strcmp(arguments[7], "-") ? fopen(arguments[7], "r") : NULL;
    connections = calloc(total, sizeof *connections);
    epoll_fd = epoll_create1(0);
    if (connections == NULL || epoll_fd < 0)
        fatal("start");
    open_all();
    serve_commands();
}
