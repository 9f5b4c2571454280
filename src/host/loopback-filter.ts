/**
 * Filter of frames on their way to passt: no guest reaches the host's loopback by naming it.
 *
 * passt connects to whatever address a packet names. Before February 2024 that includes 127.0.0.1, which a kernel sends to nobody, but
 * a hostile one does: there listens what the host means for itself. `loopback=yes` leads there by the gateway's address.
 */

const TYPE_AT = 12;
const IPV4 = { type: 0x0800, source: 26, target: 30, end: 34 } as const;
const IPV6 = { type: 0x86dd, source: 22, target: 38, end: 54 } as const;
/** 127.0.0.0/8; and 0.0.0.0/8, which connect(2) takes for the loopback. */
const LOOPBACK_NET = 127;
const THIS_NET = 0;

/** Whether a frame may go to passt: not if it names the loopback, as where it goes to or where it is from. */
export function mayLeave(frame: Uint8Array): boolean {
  const type = ((frame[TYPE_AT] as number) << 8) | (frame[TYPE_AT + 1] as number);
  if (type === IPV4.type) {
    if (frame.length < IPV4.end) return false;
    const target = frame[IPV4.target];
    // DHCP asks from 0.0.0.0.
    return target !== LOOPBACK_NET && target !== THIS_NET && frame[IPV4.source] !== LOOPBACK_NET;
  }
  if (type === IPV6.type) {
    if (frame.length < IPV6.end) return false;
    // Neighbour discovery asks from the unspecified address.
    return (
      !isLocal(frame, IPV6.target) && (!isLocal(frame, IPV6.source) || isUnspecified(frame, IPV6.source))
    );
  }
  return true;
}

/** ::, ::1, and IPv4 addresses written as IPv6's: all that begin with 80 bits of zeroes (RFC 4291, 2.5). */
function isLocal(frame: Uint8Array, at: number): boolean {
  return frame.subarray(at, at + 10).every((byte) => byte === 0);
}

function isUnspecified(frame: Uint8Array, at: number): boolean {
  return frame.subarray(at, at + 16).every((byte) => byte === 0);
}
