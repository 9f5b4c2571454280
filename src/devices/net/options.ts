/** Configuration of a network card, in the words of the command line and of the library. */

import { TsvmError } from '../../errors.js';
import { isListOf, isWhole, optional } from '../../util/fields.js';
import type { Host } from '../backends/host.js';
import { MAC_BYTES, MAX_MTU, MIN_MTU, type NetPlace, type PortForward, USER_NET } from '../backends/net.js';
import { checkRequestConfig } from '../config-fields.js';
import { keyAndValue } from '../option-text.js';
import { LIMIT_FIELDS, parseLimit, type RateLimit } from '../rate-limit.js';

/** Configuration of a network card. Limits are of bytes and of frames, each direction by itself. */
export interface NetConfig extends RateLimit {
  /** The operator's name for the card, which the control API finds it by; the guest does not see it. */
  readonly id?: string;
  /** `user`: passt, without privileges. `tap`: an interface that the operator made. */
  readonly backend: 'user' | 'tap';
  /** The TAP interface. */
  readonly name?: string;
  /** With `user`: ports of the host's that lead into the guest. */
  readonly forwards?: readonly PortForward[];
  /** With `user`: the guest reaches the host's loopback at the gateway's address. Default false. */
  readonly loopback?: boolean;
  /** `02:00:00:00:00:01`. Default: a random one, locally administered. */
  readonly mac?: string;
  /** Default: 65520 with `user`, and the interface's own with `tap`. */
  readonly mtu?: number;
}

export const NET_ARGUMENT =
  'user[,hostfwd=tcp:ADDR:PORT-:GUESTPORT][,loopback=yes] | tap,name=TAP, both [,mac=MAC][,mtu=N][,bps=RATE[/BURST]][,pps=RATE[/BURST]]';

/** passt binds each by itself. */
const MAX_FORWARDS = 64;
/** Bound of a card's `id`, in characters. */
export const MAX_CARD_ID_CHARACTERS = 64;
/** IFNAMSIZ of Linux, without the terminating zero. */
const MAX_NAME_BYTES = 15;

const EXAMPLE = {
  place: '--net user, or --net tap,name=tap0',
  name: '--net tap,name=tap0',
  hostfwd: '--net user,hostfwd=tcp:127.0.0.1:8080-:80',
  loopback: '--net user,loopback=yes',
  mac: '--net user,mac=02:00:00:00:00:01',
  mtu: '--net user,mtu=1500',
  bps: '--net user,bps=10M/64M,pps=1000',
} as const;

function usage(message: string, example: keyof typeof EXAMPLE): TsvmError {
  return new TsvmError('TSVM_USAGE', `--net: ${message}`, { hint: `for example: ${EXAMPLE[example]}` });
}

/** @throws TsvmError `TSVM_USAGE`, naming the part that is wrong. */
export function parseNet(text: string): NetConfig {
  const [backend = '', ...options] = text.split(',');
  if (backend !== 'user' && backend !== 'tap')
    throw usage(
      backend === '' ? 'it is not said which network' : `there is no network '${backend}'`,
      'place',
    );
  const config: { -readonly [Key in keyof NetConfig]: NetConfig[Key] } = { backend };
  const forwards: PortForward[] = [];
  for (const option of options) {
    const [key, value] = keyAndValue(option);
    if (key === 'mac') {
      if (!isMacText(value)) throw usage(`'${value}' is not the MAC address of one card`, 'mac');
      config.mac = value.toLowerCase();
    } else if (key === 'mtu') {
      if (!/^\d{1,6}$/.test(value) || !isMtu(Number(value)))
        throw usage(`mtu '${value}' is not from ${MIN_MTU} to ${MAX_MTU}`, 'mtu');
      config.mtu = Number(value);
    } else if (key === 'bps' || key === 'pps') {
      const limit = parseLimit(key === 'bps' ? 'bytes' : 'ops', value);
      if (limit === undefined) throw usage(`${key} '${value}' is not a number a second`, 'bps');
      Object.assign(config, limit);
    } else if (key === 'name' && backend === 'tap') {
      if (!isInterfaceName(value)) throw usage(`'${value}' is not the name of an interface`, 'name');
      config.name = value;
    } else if (key === 'hostfwd' && backend === 'user') {
      forwards.push(parseForward(value));
    } else if (key === 'loopback' && backend === 'user') {
      if (value !== 'yes' && value !== 'no') throw usage(`loopback '${value}' is not yes or no`, 'loopback');
      config.loopback = value === 'yes';
    } else {
      throw usage(`${backend} has no option '${option}'`, backend === 'user' ? 'hostfwd' : 'name');
    }
  }
  if (forwards.length > MAX_FORWARDS) throw usage(`more than ${MAX_FORWARDS} forwarded ports`, 'hostfwd');
  if (forwards.length > 0) config.forwards = forwards;
  if (backend === 'tap' && config.name === undefined)
    throw usage('tap needs the name of an interface', 'name');
  return config;
}

/** `tcp:127.0.0.1:8080-:80`, as QEMU writes it. */
function parseForward(text: string): PortForward {
  const match = /^([^:]*):([^:]*):([^:-]*)-([^:]*):([^:]*)$/.exec(text);
  if (match === null) throw usage(`hostfwd '${text}' is not PROTOCOL:ADDRESS:PORT-:GUESTPORT`, 'hostfwd');
  const [, protocol = '', address = '', port = '', guestAddress = '', guestPort = ''] = match;
  const wrong = (part: string): TsvmError => usage(`hostfwd '${text}': ${part}`, 'hostfwd');
  if (protocol !== 'tcp' && protocol !== 'udp') throw wrong(`'${protocol}' is not tcp or udp`);
  if (address !== '' && !isIpv4(address)) throw wrong(`'${address}' is not an IPv4 address`);
  if (!isPort(port)) throw wrong(`'${port}' is not a port`);
  if (guestAddress !== '') throw wrong(`'${guestAddress}': the guest has one address, leave it out`);
  if (!isPort(guestPort)) throw wrong(`'${guestPort}' is not a port`);
  return { protocol, address, port: Number(port), guestPort: Number(guestPort) };
}

/** A copy of a configuration that comes as data. @throws TsvmError `TSVM_CONFIG`, naming the field. */
export function checkNetConfig(config: unknown): NetConfig {
  const backend = (config as { backend?: unknown } | null | undefined)?.backend;
  const tap = backend === 'tap';
  return checkRequestConfig<NetConfig>('net', config, {
    id: optional([
      `a name of up to ${MAX_CARD_ID_CHARACTERS} letters, digits and underscores`,
      (value) => typeof value === 'string' && /^\w+$/.test(value) && value.length <= MAX_CARD_ID_CHARACTERS,
    ]),
    backend: ['user or tap', (value) => value === 'user' || value === 'tap'],
    name: tap
      ? ['the name of an interface', isInterfaceName]
      : ['left out: only a tap has one', (value) => value === undefined],
    forwards: optional([
      tap ? 'left out: a tap has none' : `a list of up to ${MAX_FORWARDS} forwarded ports`,
      (value) => !tap && isForwards(value),
    ]),
    loopback: optional([
      tap ? 'left out: a tap has none' : 'true or false',
      (value) => !tap && typeof value === 'boolean',
    ]),
    mac: optional(['the MAC address of one card', isMacText]),
    mtu: optional([`from ${MIN_MTU} to ${MAX_MTU}`, isMtu]),
    ...LIMIT_FIELDS,
  });
}

/** Place that the host is asked to plug the card into. */
export function placeOf(config: NetConfig): NetPlace {
  if (config.backend === 'tap') return { kind: 'tap', name: config.name ?? '' };
  return {
    kind: 'user',
    mtu: config.mtu ?? MAX_MTU,
    forwards: config.forwards ?? [],
    loopback: config.loopback ?? false,
  };
}

/** Locally administered, of one card. */
export function randomMac(host: Pick<Host, 'fillRandom'>): Uint8Array {
  const mac = new Uint8Array(MAC_BYTES);
  host.fillRandom(mac);
  mac[0] = ((mac[0] as number) & 0xfc) | 2;
  return mac;
}

export function toMac(text: string): Uint8Array {
  return Uint8Array.from(text.split(':'), (byte) => Number.parseInt(byte, 16));
}

/** Not a group's: the lowest bit of the first byte is 0. */
function isMacText(value: unknown): boolean {
  return (
    typeof value === 'string' &&
    /^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$/i.test(value) &&
    !/^[0:]*$/.test(value)
  );
}

function isMtu(value: unknown): boolean {
  return Number.isInteger(value) && (value as number) >= MIN_MTU && (value as number) <= MAX_MTU;
}

/** Tells whether Linux takes a name (dev_valid_name), without the % of its templates. */
function isInterfaceName(value: unknown): boolean {
  return (
    typeof value === 'string' &&
    value.length <= MAX_NAME_BYTES &&
    /^[\x21-\x7e]+$/.test(value) &&
    !/[/:%]/.test(value) &&
    value !== '.' &&
    value !== '..'
  );
}

function isIpv4(text: string): boolean {
  return /^(\d{1,3}\.){3}\d{1,3}$/.test(text) && text.split('.').every((part) => Number(part) <= 255);
}

function isPort(text: string): boolean {
  return /^\d{1,5}$/.test(text) && Number(text) >= 1 && Number(text) <= 65_535;
}

function isForwards(value: unknown): boolean {
  return Array.isArray(value) && value.length <= MAX_FORWARDS && value.every(isForward);
}

function isForward(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  const { protocol, address, port, guestPort, ...rest } = value as Record<string, unknown>;
  return (
    (protocol === 'tcp' || protocol === 'udp') &&
    typeof address === 'string' &&
    (address === '' || isIpv4(address)) &&
    isPort(String(port)) &&
    isPort(String(guestPort)) &&
    Number.isInteger(port) &&
    Number.isInteger(guestPort) &&
    Object.keys(rest).length === 0
  );
}

/** Tells whether a saved address is one. */
export function isMac(value: unknown): value is number[] {
  return isListOf(isWhole(0, 0xff), MAC_BYTES)(value) && (value as number[]).length === MAC_BYTES;
}

/** Documentation/admin-guide/nfs/nfsroot.rst, `ip=`: what passt would answer to DHCP. */
export function staticAddress(ordinal: number): string {
  const { guestAddress, gatewayAddress, netmask, nameServerAddress } = USER_NET;
  return `ip=${guestAddress}::${gatewayAddress}:${netmask}::eth${ordinal}:off:${nameServerAddress}`;
}
