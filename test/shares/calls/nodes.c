/* mknod(2), FIFOs, Unix sockets, and what is refused of them. */
#include "check.h"

#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>

CHECK(nodes, fifo) {
  tell("mkfifo", mkfifo("p", 0666));
  mode_of("p");
}

CHECK(nodes, fifo_carries) {
  need(mkfifo("p", 0600));
  pid_t child = (pid_t)need(fork());
  if (child == 0) {
    int fd = open("p", O_WRONLY);
    _exit(write(fd, "hello", 5) != 5);
  }
  text_of("p");
  int how;
  need(waitpid(child, &how, 0));
  value("writer", how);
}

CHECK(nodes, fifo_without_reader) {
  need(mkfifo("p", 0600));
  tell("writer", open("p", O_WRONLY | O_NONBLOCK));
  tell("reader", open("p", O_RDONLY | O_NONBLOCK));
  tell("truncate", truncate("p", 0));
}

CHECK(nodes, fifo_of_user) {
  AS(OWNER, STAFF, 0) tell("mkfifo", mkfifo("p", 0640));
  owner_of("p");
}

CHECK(nodes, regular) {
  tell("mknod", mknod("f", S_IFREG | 0640, 0));
  tell("again", mknod("f", S_IFREG | 0640, 0));
  mode_of("f");
  tell("write", write(opened("f", O_WRONLY), "x", 1));
}

CHECK(nodes, regular_by_type_0) {
  tell("mknod", mknod("f", 0640, 0));
  mode_of("f");
}

CHECK(nodes, directory) { tell("mknod", mknod("d", S_IFDIR | 0755, 0)); }

CHECK(nodes, socket) {
  tell("mknod", mknod("s", S_IFSOCK | 0640, 0));
  mode_of("s");
  tell("open", open("s", O_RDWR));
}

CHECK(nodes, device) {
  tell("null", mknod("null", S_IFCHR | 0666, makedev(1, 3)));
  tell("loop", mknod("loop", S_IFBLK | 0600, makedev(7, 0)));
}

CHECK(nodes, whiteout) { tell("mknod", mknod("w", S_IFCHR, makedev(0, 0))); }

CHECK(nodes, device_of_user) {
  AS(OWNER, OWNER, 0) tell("null", mknod("null", S_IFCHR | 0666, makedev(1, 3)));
}

CHECK(nodes, setid_bits) {
  tell("mknod", mknod("f", S_IFREG | 06755, 0));
  mode_of("f");
}

static int bound(const char *name) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strcpy(address.sun_path, name);
  int fd = (int)need(socket(AF_UNIX, SOCK_STREAM, 0));
  return tell("bind", bind(fd, (struct sockaddr *)&address, sizeof address)) ? fd : -1;
}

static int connected(const char *name) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strcpy(address.sun_path, name);
  int fd = (int)need(socket(AF_UNIX, SOCK_STREAM, 0));
  return tell("connect", connect(fd, (struct sockaddr *)&address, sizeof address)) ? fd : -1;
}

CHECK(nodes, bound_socket) {
  bound("s");
  mode_of("s");
  bound("s");
}

CHECK(nodes, bound_socket_carries) {
  int listener = bound("s");
  need(listen(listener, 1));
  int client = connected("s");
  need(write(client, "hello", 5));
  char text[9];
  value("read", read((int)need(accept(listener, NULL, NULL)), text, sizeof text));
}

CHECK(nodes, bound_socket_renamed) {
  int listener = bound("s");
  need(listen(listener, 1));
  need(rename("s", "t"));
  connected("t");
  connected("s");
}

CHECK(nodes, bound_socket_without_listener) {
  close(bound("s"));
  connected("s");
  tell("unlink", unlink("s"));
  connected("s");
}

CHECK(nodes, bound_socket_not_writable) {
  int listener = bound("s");
  need(listen(listener, 1));
  need(chmod("s", 0600));
  AS(OWNER, OWNER, 0) connected("s");
}
