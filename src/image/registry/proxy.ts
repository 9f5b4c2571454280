/** Proxies as the environment names them: HTTP_PROXY, HTTPS_PROXY and NO_PROXY, in lower case too, as curl and Go's programs take them. */
import { isIP } from 'node:net';
import { TsvmError } from '../../errors.js';
import { bareHost, isLocalName, portOf } from './address.js';

export interface ProxyVariables {
  readonly http?: string | undefined;
  readonly https?: string | undefined;
  /** Hosts without a proxy: `example.com`, `.example.com`, `10.0.0.1`, `host:port`, `*`. */
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
  const [, name = '', rulePort] = /^(.*?)(?::(\d+))?$/.exec(rule) ?? [];
  if (name === '' || (rulePort !== undefined && rulePort !== portOf(url))) return false;
  const bare = bareHost(url.hostname);
  const suffix = name.replace(/^\*?\./, '');
  return bare === suffix || rule === bare || (isIP(bare) === 0 && bare.endsWith(`.${suffix}`));
}
