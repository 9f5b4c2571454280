/**
 * A TAP interface: frames go to the host's own network stack, and from there wherever its operator leads them.
 *
 * Its descriptor does not block, and libuv's poll says when there is something to read. Node's own streams would do it with
 * a thread of libuv's pool that waits in read(2), and disks need those.
 */
import type { FrameSource, NetBackend, NetClient } from '../../devices/backends/net.js';
import {
  MAX_MTU,
  MAX_SEGMENTED_BYTES,
  MIN_MTU,
  NET_HEADER_BYTES,
  type Offloads,
} from '../../devices/backends/net.js';
import { isErrnoError, TsvmError } from '../../errors.js';
import type { NativeAddon, NativeTap } from '../../native/binding.js';

// linux/if_tun.h
const TUN_F_CSUM = 0x01;
const TUN_F_TSO4 = 0x02;
const TUN_F_TSO6 = 0x04;
const TUN_F_TSO_ECN = 0x08;

/** Read before others get their turn. */
const FRAMES_PER_TURN = 64;

/** @throws TsvmError `TSVM_NET`, naming the interface. */
export function openTap(addon: Pick<NativeAddon, 'openTap'>, name: string): NetBackend {
  try {
    return new TapBackend(addon.openTap(name));
  } catch (cause) {
    throw tapError(name, cause);
  }
}

class TapBackend implements NetBackend {
  readonly mtu: number;
  readonly #tap: NativeTap;
  readonly #sent = new Uint8Array(NET_HEADER_BYTES + MAX_SEGMENTED_BYTES);
  readonly #received = new Uint8Array(NET_HEADER_BYTES + MAX_SEGMENTED_BYTES);
  /** Length of a frame in `#received` that the guest had no room for. */
  #waitingBytes = 0;
  /** Offloads that the interface was told last. */
  #offloads = 0;
  #client: NetClient | undefined;
  #closed = false;

  constructor(tap: NativeTap) {
    this.#tap = tap;
    this.mtu = Math.min(Math.max(tap.mtu, MIN_MTU), MAX_MTU);
  }

  /** The kernel takes a frame or loses it; it never makes anybody wait. */
  get writable(): boolean {
    return true;
  }

  connect(_mac: Uint8Array, client: NetClient): void {
    this.#client = client;
    client.onLink(true);
    this.#tap.listen(() => this.#read());
  }

  send(frame: FrameSource, header: Uint8Array): void {
    this.#sent.set(header);
    const length = frame.read(this.#sent.subarray(NET_HEADER_BYTES));
    this.#tap.write(this.#sent.subarray(0, NET_HEADER_BYTES + length));
  }

  /** Says what the guest takes; the rest the host's kernel does before it gives the frame out. */
  setOffloads({ checksum, tcp4, tcp6, ecn }: Offloads): void {
    if (this.#closed) return;
    const flags =
      (checksum ? TUN_F_CSUM : 0) |
      (tcp4 ? TUN_F_TSO4 : 0) |
      (tcp6 ? TUN_F_TSO6 : 0) |
      (ecn ? TUN_F_TSO_ECN : 0);
    // It takes a lock of the host's network that others wait for.
    if (flags === this.#offloads) return;
    this.#offloads = flags;
    try {
      this.#tap.setOffloads(flags);
    } catch {
      // The interface is gone, which the next read tells the guest.
    }
  }

  flush(): void {}

  /** While the guest has no room the interface's own queue fills, and then the kernel drops frames and counts them. */
  resume(): void {
    if (this.#closed || this.#waitingBytes === 0) return;
    const length = this.#waitingBytes;
    this.#waitingBytes = 0;
    this.#give(length);
    this.#client?.received();
    if (this.#waitingBytes === 0) this.#tap.listen(() => this.#read());
  }

  #read(): void {
    if (this.#closed || this.#waitingBytes > 0) return;
    try {
      for (let i = 0; i < FRAMES_PER_TURN && this.#waitingBytes === 0; i++) {
        const length = this.#tap.read(this.#received);
        if (length === 0) break;
        this.#give(length);
      }
    } catch {
      this.#tap.mute();
      this.#client?.onLink(false); // somebody deleted the interface
    }
    this.#client?.received();
  }

  #give(length: number): void {
    const header = this.#received.subarray(0, NET_HEADER_BYTES);
    if (this.#client?.receive(this.#received.subarray(NET_HEADER_BYTES, length), header) !== false) return;
    this.#waitingBytes = length;
    this.#tap.mute();
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#tap.close();
  }
}

function tapError(name: string, cause: unknown): unknown {
  if (!isErrnoError(cause)) return cause;
  const make = `ip tuntap add dev ${name} mode tap user $USER && ip link set ${name} up`;
  const known: Readonly<Record<string, readonly [problem: string, hint: string]>> = {
    ENODEV: ['there is no such interface', `make it: ${make}`],
    EBUSY: ['it is in use by another machine', 'give each machine its own, at one bridge'],
    EPERM: ['it belongs to another user', `as root: ip tuntap del dev ${name} mode tap && ${make}`],
    EINVAL: ['it is not a TAP interface with one queue', `choose another name, and make it: ${make}`],
    ENOENT: ['/dev/net/tun is missing', 'load the module: modprobe tun'],
    EACCES: ['/dev/net/tun: permission denied', 'as root: chmod 666 /dev/net/tun'],
  };
  const [problem, hint] = known[cause.code] ?? [`${cause.syscall} failed with ${cause.code}`, undefined];
  return new TsvmError('TSVM_NET', `net tap: ${name}: ${problem}`, {
    ...(hint === undefined ? {} : { hint }),
    cause,
  });
}
