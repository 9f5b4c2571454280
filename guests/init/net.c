/*
 * The network: 127.0.0.1, which programs expect and nobody else sets up; and one card, as ip= on the kernel's command line says
 * (Documentation/admin-guide/nfs/nfsroot.rst). A kernel with CONFIG_IP_PNP has done the same by then.
 */
#include "init.h"

/* Of linux/socket.h, linux/if.h, linux/sockios.h and linux/route.h, which cannot be included without a C library. */
enum { AF_INET = 2, SOCK_DGRAM = 2, SOCK_CLOEXEC = 02000000, IFF_UP = 1, RTF_UP = 1, RTF_GATEWAY = 2 };
enum { SIOCADDRT = 0x890b, SIOCSIFFLAGS = 0x8914, SIOCSIFADDR = 0x8916, SIOCSIFNETMASK = 0x891c };
struct inet { /* struct sockaddr_in */
  unsigned short family, port;
  unsigned char address[4];
  char zero[8];
};
struct ifreq {
  char name[16];
  union {
    short flags;
    struct inet inet;
    char size[24];
  };
};
struct rtentry {
  ulong pad1;
  struct inet dst, gateway, genmask;
  unsigned short flags;
  short pad2;
  ulong pad3[2];
  short metric;
  char *dev;
  ulong mtu, window;
  unsigned short irtt;
};

/* The fields of ip=. */
enum { CLIENT, SERVER, GATEWAY, NETMASK, HOST, DEVICE, AUTOCONF, NAME_SERVER, FIELDS };

/* Of ip=, as it stands there. */
static char name_server[64];

/* An IPv4 address; 0 if it is none. */
static int parse_inet(const char *text, struct inet *inet) {
  inet->family = AF_INET;
  for (int i = 0; i < 4; i++) {
    if (i && *text++ != '.') return 0;
    if (*text < '0' || *text > '9') return 0;
    ulong n = number(&text);
    if (n > 255) return 0;
    inet->address[i] = (unsigned char)n;
  }
  return *text == 0;
}

static long up(int fd, const char *name) {
  struct ifreq request = {.flags = IFF_UP};
  memcpy(request.name, name, length(name) + 1);
  return SYS3(ioctl, fd, SIOCSIFFLAGS, &request);
}

static long set_address(int fd, const char *name, long what, const struct inet *inet) {
  struct ifreq request = {.inet = *inet};
  memcpy(request.name, name, length(name) + 1);
  return SYS3(ioctl, fd, what, &request);
}

static const char *configure(int fd, char *text) {
  const char *field[FIELDS] = {0};
  for (int i = 0; i < FIELDS; i++) {
    field[i] = text;
    while (*text && *text != ':') text++;
    if (*text) *text++ = 0;
  }
  struct inet address = {0}, netmask = {0};
  struct rtentry route = {.dst.family = AF_INET, .genmask.family = AF_INET, .flags = RTF_UP | RTF_GATEWAY};
  const char *device = *field[DEVICE] ? field[DEVICE] : "eth0";
  if (length(device) > 15) return "no such interface";
  if (!parse_inet(field[CLIENT], &address) || !parse_inet(field[NETMASK], &netmask))
    return "address and netmask are needed; DHCP is for the command: udhcpc";
  if (set_address(fd, device, SIOCSIFADDR, &address) < 0) return "no such interface";
  if (set_address(fd, device, SIOCSIFNETMASK, &netmask) < 0) return "not a netmask";
  if (up(fd, device) < 0) return "the interface cannot be used";
  if (*field[GATEWAY]) {
    if (!parse_inet(field[GATEWAY], &route.gateway)) return "not a gateway's address";
    long result = SYS3(ioctl, fd, SIOCADDRT, &route);
    if (result < 0 && result != -EEXIST) return "the gateway is not on the interface's network";
  }
  const char *server = field[NAME_SERVER];
  if (length(server) < sizeof name_server) memcpy(name_server, server, length(server) + 1);
  return 0;
}

/*
 * In a root that is only covered, what is there is replaced: an empty file that an export has left, or a link that leads nowhere. Whoever
 * has one in a disk's own root keeps it.
 */
void write_resolv_conf(void) {
  static const char path[] = "/etc/resolv.conf";
  if (!*name_server) return;
  SYS2(mkdir, "/etc", 0755);
  if (root_is_covered) SYS1(unlink, path);
  int fd = (int)SYS3(open, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0) return;
  SYS3(write, fd, "nameserver ", 11);
  SYS3(write, fd, name_server, length(name_server));
  SYS3(write, fd, "\n", 1);
  SYS1(close, fd);
}

void set_up_network(char *ip) {
  int fd = (int)SYS3(socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return;
  up(fd, "lo");
  if (ip && !equal(ip, "off") && !equal(ip, "none")) {
    const char *problem = configure(fd, ip);
    if (problem) SAY("ip=: ", problem);
  }
  SYS1(close, fd);
}
