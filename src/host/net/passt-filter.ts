/**
 * Filter of frames on their way to passt: no guest reaches the host's loopback by naming it, and no part of a datagram passes for one.
 *
 * passt connects to whatever address a packet names. Before February 2024 that includes 127.0.0.1, which a kernel sends to nobody, but
 * a hostile one does: there listens what the host means for itself. `loopback=yes` leads there by the gateway's address.
 *
 * passt puts no fragments together. Before it learned to drop them, it sent the first on as a whole datagram, and took what the others
 * carry for headers. What is lost is sent again, or missed; what is cut is believed.
 */

const TYPE_AT = 12;
const IPV4 = { type: 0x0800, fragment: 20, source: 26, target: 30, end: 34 } as const;
const IPV6 = { type: 0x86dd, nextHeader: 20, source: 22, target: 38, end: 54 } as const;
/** Bits of a fragment: more of it follows, or it does not begin at 0 (RFC 791, 3.1). */
const FRAGMENT_MASK = 0x3fff;
/** Next header of a fragment (RFC 8200, 4.5). */
const FRAGMENT_HEADER = 44;
/** 127.0.0.0/8; and 0.0.0.0/8, which connect(2) takes for the loopback. */
const LOOPBACK_NET = 127;
const THIS_NET = 0;

/** Tells whether a frame may go to passt: not if the loopback is its source or target, and not if it is a fragment. */
export function mayLeave(frame: Uint8Array): boolean {
  const type = u16(frame, TYPE_AT);
  if (type === IPV4.type) {
    if (frame.length < IPV4.end || (u16(frame, IPV4.fragment) & FRAGMENT_MASK) !== 0) return false;
    const target = frame[IPV4.target];
    // DHCP asks from 0.0.0.0.
    return target !== LOOPBACK_NET && target !== THIS_NET && frame[IPV4.source] !== LOOPBACK_NET;
  }
  if (type === IPV6.type) {
    if (frame.length < IPV6.end || frame[IPV6.nextHeader] === FRAGMENT_HEADER) return false;
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

function u16(frame: Uint8Array, at: number): number {
  return ((frame[at] as number) << 8) | (frame[at + 1] as number);
}
