/** Proxies as the environment names them: HTTP_PROXY, HTTPS_PROXY and NO_PROXY, in lower case too, as curl and Go's programs take them. */
import { BlockList, isIP } from 'node:net';
import { TsvmError } from '../../errors.js';
import { bareHost, isLocalName, portOf } from './address.js';

export interface ProxyVariables {
  readonly http?: string | undefined;
  readonly https?: string | undefined;
  /** Hosts without a proxy: `example.com`, `.example.com`, `10.0.0.1`, `10.0.0.0/8`, `fd00::1`, `[fd00::1]:5000`, `host:port`, `*`. */
  readonly no?: string | undefined;
}

/**
 * Proxy for an address; undefined for none. Names of this host never have one.
 *
 * @throws TsvmError `TSVM_USAGE` for a variable that names none.
 */
export function proxyFor(url: URL, variables: ProxyVariables): URL | undefined {
  const [name, text] =
    url.protocol === 'https:' ? ['HTTPS_PROXY', variables.https] : ['HTTP_PROXY', variables.http];
  if (text === undefined || text === '' || isLocalName(url.hostname)) return undefined;
  if ((variables.no ?? '').split(/[\s,]+/).some((rule) => matches(rule.toLowerCase(), url))) return undefined;
  const whole = /^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : `http://${text}`;
  const proxy = URL.canParse(whole) ? new URL(whole) : undefined;
  if (proxy !== undefined && /^https?:$/.test(proxy.protocol)) return proxy;
  throw new TsvmError('TSVM_USAGE', `${name} does not name an HTTP proxy`, {
    hint: `for example: ${name}=http://proxy.example:3128`,
  });
}

function matches(rule: string, url: URL): boolean {
  if (rule === '*') return true;
  const bare = bareHost(url.hostname);
  const [, address = '', bits] = /^(.*)\/(\d+)$/.exec(rule) ?? [];
  if (bits !== undefined) return isInNetwork(bare, address, Number(bits));
  // An address of IPv6 has colons of its own, so that a port comes after brackets.
  const [, name = '', rulePort] =
    isIP(rule) === 6 ? ['', rule] : (/^\[?(.*?)\]?(?::(\d+))?$/.exec(rule) ?? []);
  if (name === '' || (rulePort !== undefined && rulePort !== portOf(url))) return false;
  if (isIP(name) !== 0) return isInNetwork(bare, name, isIP(name) === 6 ? 128 : 32);
  const suffix = name.replace(/^\*?\./, '');
  return bare === suffix || (isIP(bare) === 0 && bare.endsWith(`.${suffix}`));
}

/** Tells whether a host is an address in a network; one that is written otherwise is the same. */
function isInNetwork(host: string, address: string, bits: number): boolean {
  const family = isIP(address);
  if (family === 0 || family !== isIP(host) || bits > (family === 6 ? 128 : 32)) return false;
  const kind = family === 6 ? 'ipv6' : 'ipv4';
  const network = new BlockList();
  network.addSubnet(address, bits, kind);
  return network.check(host, kind);
}
