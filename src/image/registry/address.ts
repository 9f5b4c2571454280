/** Addresses: their hosts and ports, and which are of this host and of its cloud, to which a name that comes from outside must not lead. */
import { BlockList, isIP } from 'node:net';

const NETS: readonly (readonly [what: string, nets: readonly string[]])[] = [
  ['of this host', ['0.0.0.0/8', '127.0.0.0/8', '::/128', '::1/128']],
  // RFC 3927; 169.254.169.254 and fd00:ec2::254 are where clouds tell a machine its secrets; Alibaba's, Oracle's, Azure's.
  ['of a link', ['169.254.0.0/16', 'fe80::/10']],
  ['of a cloud’s metadata', ['fd00:ec2::/32', '100.100.100.200/32', '192.0.0.192/32', '168.63.129.16/32']],
  ['of a group, or reserved', ['224.0.0.0/4', '240.0.0.0/4', 'ff00::/8']],
];

/** Prefix of 96 bits of the addresses that lead to IPv4 ones through NAT64 (RFC 6052, 2.1). */
const NAT64 = '64:ff9b::';

const LISTS: readonly (readonly [what: string, list: BlockList])[] = NETS.map(([what, nets]) => {
  const list = new BlockList();
  for (const net of nets) {
    const [address = '', bits] = net.split('/');
    if (isIP(address) === 6) list.addSubnet(address, Number(bits), 'ipv6');
    else {
      list.addSubnet(address, Number(bits), 'ipv4');
      list.addSubnet(`${NAT64}${address}`, 96 + Number(bits), 'ipv6');
    }
  }
  return [what, list];
});

/** Host, as an address has it, without the brackets of an IPv6 one. */
export function bareHost(host: string): string {
  return host.replace(/^\[(.*)\]$/, '$1');
}

/** Port that an address leads to, whether it names one or not. */
export function portOf({ port, protocol }: URL): string {
  return port || (protocol === 'https:' ? '443' : '80');
}

/** Kind of a local address; undefined for one that a registry may have. An IPv4 address within an IPv6 one counts as itself. */
export function localKind(address: string): string | undefined {
  const family = isIP(address) === 6 ? 'ipv6' : 'ipv4';
  return LISTS.find(([, list]) => list.check(address, family))?.[0];
}

/** Tells whether a host, as an address has it, says by itself that it is this one: `localhost`, `127.0.0.1`, `[::1]`. */
export function isLocalName(host: string): boolean {
  const address = bareHost(host);
  return host === 'localhost' || (isIP(address) !== 0 && localKind(address) !== undefined);
}
