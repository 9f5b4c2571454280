/* System calls of the agent beside those of init, as Linux has them on x86-64. */
#ifndef TSVM_AGENT_SYSTEM_H
#define TSVM_AGENT_SYSTEM_H

#include "../init/sys.h"

#include <asm/fcntl.h>
#include <linux/eventpoll.h>
#include <linux/resource.h>
#include <linux/signalfd.h>

#define SIGNAL_BIT(number) (1ul << ((number) - 1))

enum {
  LAST_SIGNAL = 64,
  SIGNALS_SET = 2, /* SIG_SETMASK */
  CLOCK_OF_DAY = 0, /* CLOCK_REALTIME */
  LAST_ERROR = 4095,
};

/* <sys/socket.h>, <linux/vm_sockets.h> */
enum {
  SOCKET_STREAM = 1,
  SOCKET_NONBLOCK = O_NONBLOCK,
  SOCKET_CLOEXEC = O_CLOEXEC,
  SOCKET_LEVEL = 1,
  SOCKET_ACCEPTS = 30, /* SO_ACCEPTCONN */
  SOCKET_FAMILY = 39,  /* SO_DOMAIN */
  FAMILY_VSOCK = 40,
  VSOCK_HOST = 2,
};
#define VSOCK_ANY 0xffffffffu

struct vsock_address {
  __u16 family, reserved;
  __u32 port, cid;
  __u8 rest[4];
};

#endif
