/** Configuration of a virtio-console, by a library's user, on the command line, and in a snapshot. */
import { TsvmError } from '../../errors.js';
import { optional } from '../../util/fields.js';
import { CHOICE, checkRequestConfig, isPath } from '../config-fields.js';
import { type HostUse, withoutCommas } from '../host-slot.js';
import type { HostPath } from '../kind.js';
import { keyAndValue } from '../option-text.js';

/** Each costs the guest some tens of register writes. */
export const MAX_NAMED_PORTS = 30;
/** Name of a port, for which a control buffer of the least sensible driver has room. Linux's have a page. */
const NAME = /^[\w.:-]{1,32}$/;
const NAME_RULE = '1 to 32 of letters, digits, dot, colon, dash and underscore';
const PORTS_RULE = `a list of up to ${MAX_NAMED_PORTS} different names (${NAME_RULE}), which may have the path of a socket`;

/** A port whose host's side is a Unix socket, for one program of the host's at a time. */
export interface SocketPort {
  /** Name by which the guest knows it: /sys/class/virtio-ports/vport*\/name. */
  readonly name: string;
  /** Of the socket. Without one nobody can connect, until the machine is restored with a path for it. */
  readonly path?: string;
}

/** Argument of `virtioConsole()`. */
export interface VirtioConsoleConfig {
  /** At the machine's terminal. Default true. */
  readonly console?: boolean;
  /** Ports 1 and up. One with a name alone is the machine's own: those of its channel. */
  readonly ports?: readonly (string | SocketPort)[];
}

/** @throws TsvmError `TSVM_CONFIG`, naming the field. */
export function checkConsoleConfig(config: unknown): VirtioConsoleConfig {
  return checkRequestConfig<VirtioConsoleConfig>('console', config, {
    console: CHOICE,
    ports: optional([PORTS_RULE, arePorts]),
  });
}

function arePorts(value: unknown): boolean {
  if (!Array.isArray(value) || value.length > MAX_NAMED_PORTS) return false;
  const names = value.map((port: unknown) => (typeof port === 'string' ? port : nameOf(port)));
  return names.every((name) => name !== undefined && NAME.test(name)) && new Set(names).size === names.length;
}

/** Undefined if it is no {@link SocketPort}. */
function nameOf(port: unknown): string | undefined {
  if (typeof port !== 'object' || port === null) return undefined;
  const { name, path, ...more } = port as { readonly [key: string]: unknown };
  return typeof name === 'string' && (path === undefined || isPath(path)) && Object.keys(more).length === 0
    ? name
    : undefined;
}

/** As {@link parsePorts} returns them. */
export function pathsByName(
  ports: readonly { readonly name: string; readonly path: string }[],
): Record<string, string> {
  return Object.fromEntries(ports.map(({ name, path }) => [name, path]));
}

/** @throws TsvmError `TSVM_USAGE` */
export function parsePorts(text: string): (SocketPort & { readonly path: string })[] {
  const usage = {
    hint: 'give --ports NAME=SOCKET[,NAME=SOCKET ...], for example: --ports log=/tmp/log.sock',
  };
  const ports = text.split(',').map((part) => {
    const [name, path] = keyAndValue(part);
    if (!NAME.test(name))
      throw new TsvmError('TSVM_USAGE', `--ports: the name '${name}' is not ${NAME_RULE}`, usage);
    if (!isPath(path))
      throw new TsvmError('TSVM_USAGE', `--ports ${name}: it needs the path of a socket`, usage);
    return { name, path };
  });
  const twice = ports.find(({ name }, i) => ports.findIndex((port) => port.name === name) < i);
  if (twice !== undefined)
    throw new TsvmError('TSVM_USAGE', `--ports ${twice.name}: it is there twice`, usage);
  if (ports.length > MAX_NAMED_PORTS)
    throw new TsvmError('TSVM_USAGE', `--ports: ${ports.length} are more than ${MAX_NAMED_PORTS}`, usage);
  return ports;
}

/** Unix sockets of the host's, one for each port that is none of the machine's own. */
export const consoleHostUse: HostUse = {
  cliArgument: 'NAME=SOCKET[,NAME=SOCKET ...]',
  ownFolder: false,
  pathFields: ['path'],
  slots: (config) =>
    socketPorts(config).map(({ name, path }) => ({
      name: `port ${name}`,
      key: name,
      ...(path === undefined ? {} : { wish: { path } }),
    })),
  bind(config, slot, binding) {
    const { path } = checkRequestConfig<{ path: string }>(slot, binding, { path: ['a path', isPath] });
    const { ports = [], ...saved } = checkConsoleConfig(config);
    const bound = ports.map((port) =>
      typeof port !== 'string' && slot === `port ${port.name}` ? { name: port.name, path } : port,
    );
    return { ...saved, ports: bound };
  },
  describe: ({ path }, show) => `the socket ${show(String(path))}`,
  toCli: ({ key }, { path }) => (withoutCommas([path]) ? `${key}=${path}` : undefined),
  fromCli: (text) => parsePorts(text).map(({ name, path }) => ({ slot: `port ${name}`, binding: { path } })),
};

function socketPorts(config: unknown): SocketPort[] {
  return (checkConsoleConfig(config).ports ?? []).flatMap((port) => (typeof port === 'string' ? [] : port));
}

/** Sockets of a configuration's ports. @throws TsvmError `TSVM_CONFIG` */
export function consolePaths(config: unknown): HostPath[] {
  return socketPorts(config).flatMap(({ path }) =>
    path === undefined ? [] : [{ path, type: 'socket', isWritten: true }],
  );
}
