/** The options of containers, and what they say of one. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { CAPABILITIES, DEFAULT_CAPABILITIES, parseCapabilities } from '../../container/capabilities.js';
import {
  type ContainerConfig,
  checkValues,
  DEFAULT_HOSTNAME,
  defaultEnvironment,
  type IdRange,
  type IoLimit,
  type Limits,
  NAMESPACES,
  type Namespace,
  type Volume,
} from '../../container/config.js';
import { TsvmError } from '../../errors.js';
import { MAX_ID } from '../../util/ids.js';
import { environment, parseVariables } from '../environment.js';
import { parseChoice, parseCount, parseMemory, parseSize } from '../values.js';
import { addEnvOptions } from './command-options.js';
import { collect } from './device-options.js';

export interface ContainerOptions {
  rootfs?: string;
  layer?: string[];
  upper?: string;
  readOnly?: boolean;
  volume?: string[];
  env?: string[];
  envFile?: string[];
  workdir?: string;
  user?: string;
  hostname?: string;
  hostNamespace?: string[];
  uidMap?: string[];
  gidMap?: string[];
  net?: string;
  capAdd?: string[];
  capDrop?: string[];
  privileged?: boolean;
  cpus?: string;
  memory?: string;
  pids?: string;
  deviceReadBps?: string[];
  deviceWriteBps?: string[];
  deviceReadIops?: string[];
  deviceWriteIops?: string[];
}

const MAX_PIDS = 4_194_304;
const NETWORKS = ['none', 'user', 'host'] as const;

export function addContainerOptions(command: Command): Command {
  return addEnvOptions(command)
    .option(
      '--rootfs <dir>',
      'the root: a directory with the files of a system; what is changed is thrown away',
    )
    .option('--layer <dir>', 'a layer of the root, the lowest first; repeatable', collect)
    .option('--upper <dir>', 'keep what is changed in DIR/upper, and take it up again')
    .option('--read-only', 'let nothing be changed')
    .option(
      '-v, --volume <source:target[:ro]>',
      'a file or directory of the host in the container; repeatable',
      collect,
    )
    .option('-w, --workdir <path>', 'the command’s working directory in the container')
    .option('-u, --user <uid[:gid]>', 'run the command as this user (default 0:0)')
    .option('--hostname <name>', `the container’s host name (default ${DEFAULT_HOSTNAME})`)
    .option(
      '--host-namespace <namespace>',
      `stay in this one of the host’s: ${NAMESPACES.join(', ')}; repeatable`,
      collect,
    )
    .option('--uid-map <container:host:count>', 'ids of the user namespace; repeatable', collect)
    .option('--gid-map <container:host:count>', 'the same for groups', collect)
    .option('--net <kind>', 'none (default), user: through pasta, or host: the host’s own')
    .option('--cap-add <name>', 'a capability besides Docker’s 14, or ALL; repeatable', collect)
    .option('--cap-drop <name>', 'a capability less, or ALL; repeatable', collect)
    .option('--privileged', 'no filter, every capability, the host’s devices')
    .option('--cpus <n>', 'processor time: 0.5 is half of one CPU')
    .option('-m, --memory <size>', 'all that it uses, page cache included: 64M')
    .option('--pids <n>', 'processes and threads')
    .option('--device-read-bps <device:rate>', 'bytes read in a second: /dev/vda:1M; repeatable', collect)
    .option('--device-write-bps <device:rate>', 'bytes written in a second', collect)
    .option('--device-read-iops <device:n>', 'reads in a second', collect)
    .option('--device-write-iops <device:n>', 'writes in a second', collect);
}

/** @throws TsvmError `TSVM_USAGE` that names the option, or `TSVM_CONTAINER` that names what cannot be. */
export function containerConfig(
  argv: readonly string[],
  options: ContainerOptions,
  terminal: ContainerConfig['terminal'],
): ContainerConfig {
  const layers = [...(options.rootfs === undefined ? [] : [options.rootfs]), ...(options.layer ?? [])];
  const network = options.net === undefined ? 'none' : parseChoice('--net', options.net, NETWORKS);
  const hostname = options.hostname ?? DEFAULT_HOSTNAME;
  const share = sharedNamespaces(options, network);
  const user = options.user === undefined ? undefined : parseUser(options.user);
  const config: ContainerConfig = {
    layers: layers.map((path) => resolve(path)),
    argv,
    env: {
      ...defaultEnvironment(hostname, terminal !== undefined),
      ...environment(parseVariables(options.env ?? [])),
    },
    hostname,
    share,
    volumes: (options.volume ?? []).map(parseVolume),
    capabilities: capabilities(options),
    limits: limits(options),
    privileged: options.privileged === true,
    readOnly: options.readOnly === true,
    ...(network === 'host' ? {} : { network }),
    ...(options.upper === undefined ? {} : { upper: resolve(options.upper) }),
    ...(options.workdir === undefined ? {} : { cwd: options.workdir }),
    ...(user === undefined ? {} : { user }),
    ...(options.uidMap === undefined
      ? {}
      : { uidMap: options.uidMap.map((text) => parseRange('--uid-map', text)) }),
    ...(options.gidMap === undefined
      ? {}
      : { gidMap: options.gidMap.map((text) => parseRange('--gid-map', text)) }),
    ...(terminal === undefined ? {} : { terminal }),
  };
  checkValues(config);
  return config;
}

function sharedNamespaces(options: ContainerOptions, network: (typeof NETWORKS)[number]): Namespace[] {
  const named = (options.hostNamespace ?? []).map((text) =>
    parseChoice('--host-namespace', text, NAMESPACES),
  );
  // A user namespace would hold back what was asked for; without root there is no other way.
  const whole = options.privileged === true && process.geteuid?.() === 0 ? (['user'] as const) : [];
  return [...new Set([...named, ...whole, ...(network === 'host' ? (['net'] as const) : [])])];
}

function capabilities(options: ContainerOptions): ContainerConfig['capabilities'] & object {
  const added = (options.capAdd ?? []).flatMap((text) => parseCapabilities('--cap-add', text));
  const dropped = (options.capDrop ?? []).flatMap((text) => parseCapabilities('--cap-drop', text));
  const base = options.privileged === true ? CAPABILITIES : DEFAULT_CAPABILITIES;
  // `--cap-drop ALL --cap-add KILL` leaves one.
  const all = options.capDrop?.some((text) => text.toUpperCase() === 'ALL') === true;
  return [...new Set([...base.filter((name) => !dropped.includes(name)), ...added])].filter(
    (name) => all || !dropped.includes(name),
  );
}

function limits(options: ContainerOptions): Limits {
  const io = ioLimits(options);
  return {
    ...(options.cpus === undefined ? {} : { cpus: parseCpus(options.cpus) }),
    ...(options.memory === undefined ? {} : { memoryBytes: parseMemory('--memory', options.memory) }),
    ...(options.pids === undefined ? {} : { pids: parseCount('--pids', options.pids, 0, MAX_PIDS) }),
    ...(io.length === 0 ? {} : { io }),
  };
}

function parseCpus(text: string): number {
  const cpus = Number(text);
  if (text.trim() === '' || !Number.isFinite(cpus))
    throw usage(`--cpus: '${text}' is not a number`, '--cpus 0.5');
  return cpus;
}

function ioLimits(options: ContainerOptions): IoLimit[] {
  const byDevice = new Map<string, { -readonly [Key in keyof IoLimit]: IoLimit[Key] }>();
  const add = (
    flag: string,
    key: Exclude<keyof IoLimit, 'device'>,
    texts: readonly string[] | undefined,
    parse: (text: string) => number,
  ): void => {
    for (const text of texts ?? []) {
      const [, device, rate] = /^(.+):([^:]+)$/.exec(text) ?? [];
      if (device === undefined || rate === undefined)
        throw usage(`${flag}: '${text}' has no rate`, `${flag} /dev/vda:1M`);
      const limit = byDevice.get(device) ?? { device };
      limit[key] = parse(rate);
      byDevice.set(device, limit);
    }
  };
  const size = (flag: string) => (text: string) => parseSize(flag, text);
  const count = (flag: string) => (text: string) => parseCount(flag, text, 1, 0xffff_ffff);
  add('--device-read-bps', 'readBytes', options.deviceReadBps, size('--device-read-bps'));
  add('--device-write-bps', 'writeBytes', options.deviceWriteBps, size('--device-write-bps'));
  add('--device-read-iops', 'readOperations', options.deviceReadIops, count('--device-read-iops'));
  add('--device-write-iops', 'writeOperations', options.deviceWriteIops, count('--device-write-iops'));
  return [...byDevice.values()];
}

/** `SOURCE:TARGET`, `SOURCE:TARGET:ro`. */
function parseVolume(text: string): Volume {
  const [, source, target, mode] = /^([^:]+):([^:]+)(?::(ro|rw))?$/.exec(text) ?? [];
  if (source === undefined || target === undefined) {
    throw usage(
      `--volume: '${text}' is not SOURCE:TARGET or SOURCE:TARGET:ro`,
      '--volume /srv/data:/data:ro',
    );
  }
  return { source: resolve(source), target, readOnly: mode === 'ro' };
}

function parseUser(text: string): { uid: number; gid: number } {
  const [uid = '', gid = uid, ...rest] = text.split(':');
  if (rest.length > 0) throw usage(`--user: '${text}' is not UID or UID:GID`, '--user 1000:1000');
  return { uid: parseCount('--user', uid, 0, MAX_ID), gid: parseCount('--user', gid, 0, MAX_ID) };
}

function parseRange(flag: string, text: string): IdRange {
  const parts = text.split(':');
  if (parts.length !== 3)
    throw usage(`${flag}: '${text}' is not CONTAINER:HOST:COUNT`, `${flag} 0:100000:65536`);
  const [container = 0, host = 0, count = 0] = parts.map((part) => parseCount(flag, part, 0, MAX_ID));
  return { container, host, count };
}

function usage(message: string, example: string): TsvmError {
  return new TsvmError('TSVM_USAGE', message, { hint: `for example: ${example}` });
}
