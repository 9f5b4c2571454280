/*
 * AF_VSOCK stream sockets for a program on the host, as tsvm's Unix sockets at $VSOCK_PATH (docs/devices/vsock.md). Linked to the
 * kernel's vsock_test with -Wl,--wrap=socket,... What a Unix socket has of its own (send, recv, poll, shutdown, SIOCOUTQ) is its own.
 */
#include <errno.h>
#include <linux/vm_sockets.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int __real_socket(int family, int type, int protocol);
int __real_bind(int fd, const struct sockaddr *address, socklen_t length);
int __real_connect(int fd, const struct sockaddr *address, socklen_t length);
int __real_accept(int fd, struct sockaddr *address, socklen_t *length);

static int refuse(int error) {
  errno = error;
  return -1;
}

static struct sockaddr_un unix_address(const char *suffix) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s%s", getenv("VSOCK_PATH"), suffix);
  return address;
}

static int is_unix(int fd) {
  int domain = 0;
  socklen_t length = sizeof domain;
  return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0 && domain == AF_UNIX;
}

int __wrap_socket(int family, int type, int protocol) {
  if (family != AF_VSOCK) return __real_socket(family, type, protocol);
  if (type != SOCK_STREAM) return refuse(ESOCKTNOSUPPORT);
  return __real_socket(AF_UNIX, type, protocol);
}

/*
 * PATH_PORT, where nobody is answered until the program listens. Whoever had it before has left the file behind. A client may bind,
 * too, but by the convention its port is not its own choice.
 */
int __wrap_bind(int fd, const struct sockaddr *address, socklen_t length) {
  char suffix[16];
  struct sockaddr_un at;
  if (address->sa_family != AF_VSOCK) return __real_bind(fd, address, length);
  snprintf(suffix, sizeof suffix, "_%u", ((const struct sockaddr_vm *)address)->svm_port);
  at = unix_address(suffix);
  unlink(at.sun_path);
  return __real_bind(fd, (struct sockaddr *)&at, sizeof at);
}

/* "CONNECT port\n" is answered by "OK port\n", or the end. */
int __wrap_connect(int fd, const struct sockaddr *address, socklen_t length) {
  char line[32];
  struct sockaddr_un at;
  int count = 0;
  if (address->sa_family != AF_VSOCK) return __real_connect(fd, address, length);
  at = unix_address("");
  if (__real_connect(fd, (struct sockaddr *)&at, sizeof at) < 0) return -1;
  dprintf(fd, "CONNECT %u\n", ((const struct sockaddr_vm *)address)->svm_port);
  do {
    ssize_t got = read(fd, line + count, 1);
    if (got < 0) return -1;
    if (got == 0) return refuse(ECONNRESET);
  } while (line[count++] != '\n' && count < (int)sizeof line);
  return strncmp(line, "OK ", 3) == 0 ? 0 : refuse(EPROTO);
}

/* By the convention, nobody is told of the guest's port. */
int __wrap_accept(int fd, struct sockaddr *address, socklen_t *length) {
  const struct sockaddr_vm guest = {.svm_family = AF_VSOCK, .svm_cid = 3, .svm_port = VMADDR_PORT_ANY};
  if (!is_unix(fd)) return __real_accept(fd, address, length);
  int accepted = __real_accept(fd, NULL, NULL);
  if (accepted >= 0 && address != NULL) {
    memcpy(address, &guest, *length < sizeof guest ? *length : sizeof guest);
    *length = sizeof guest;
  }
  return accepted;
}
