/** `--publish`: ports of the host that lead into a machine, in Docker's words. */
import { TsvmError } from '../../errors.js';

/** Address that a port is listened at if none is given: this host's alone. */
const LOOPBACK = '127.0.0.1';

/**
 * Values of `--net` with published ports on its first card, which reaches the network by the host's user; one is added if there is none.
 *
 * @param published - `[IP:]HOSTPORT:GUESTPORT[/tcp|/udp]`, each
 * @throws TsvmError `TSVM_USAGE`
 */
export function withPublished(
  net: readonly string[] | undefined,
  published: readonly string[] | undefined,
): string[] | undefined {
  if (published === undefined) return net?.slice();
  const [first = 'user', ...others] = net ?? [];
  if (!/^user(,|$)/.test(first)) {
    throw new TsvmError('TSVM_USAGE', `--publish: the card --net ${first} has no ports of the host`, {
      hint: 'leave out --net, or give --net user first',
    });
  }
  return [[first, ...published.map(forwardOf)].join(','), ...others];
}

/** One port as an option of `--net user`, by which it is checked. */
function forwardOf(text: string): string {
  const [, address = LOOPBACK, port, guestPort, protocol = 'tcp'] =
    /^(?:(\d+(?:\.\d+){3}):)?(\d+):(\d+)(?:\/(tcp|udp))?$/.exec(text) ?? [];
  if (port === undefined || guestPort === undefined) {
    throw new TsvmError('TSVM_USAGE', `--publish: '${text}' is not [ADDRESS:]HOSTPORT:GUESTPORT[/tcp|/udp]`, {
      hint: 'for example: --publish 8080:80, or for other hosts too: --publish 0.0.0.0:8080:80',
    });
  }
  return `hostfwd=${protocol}:${address}:${port}-:${guestPort}`;
}
