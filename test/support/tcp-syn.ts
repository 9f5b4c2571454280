/** A guest's request for a TCP connection, as a frame. */

const GUEST = [10, 0, 2, 15] as const;

/** Builds a SYN from `port` of 10.0.2.15, with address `mac`, to whoever takes the frame. */
export function tcpSyn(mac: Uint8Array, port: number, address: string, toPort: number): Buffer {
  const to = address.split('.').map(Number);
  const syn = Buffer.alloc(20);
  syn.writeUInt16BE(port, 0);
  syn.writeUInt16BE(toPort, 2);
  syn.writeUInt32BE(1, 4);
  syn.set([0x50, 2, 0xff, 0xff], 12);
  syn.writeUInt16BE(checksum(Buffer.concat([Buffer.from([...GUEST, ...to, 0, 6, 0, 20]), syn])), 16);
  const packet = Buffer.alloc(20);
  packet[0] = 0x45;
  packet.writeUInt16BE(40, 2);
  packet.set([64, 6], 8);
  packet.set([...GUEST, ...to], 12);
  packet.writeUInt16BE(checksum(packet), 10);
  return Buffer.concat([Buffer.alloc(6, 0xff), mac, Buffer.from([0x08, 0x00]), packet, syn]);
}

function checksum(bytes: Buffer): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += bytes.readUInt16BE(i);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
