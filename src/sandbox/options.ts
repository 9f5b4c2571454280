/** What a sandbox is made of, as it is asked for, and its checks that need no host. */
import { isAbsolute, resolve } from 'node:path';
import { areLabels } from '../control/machine-record.js';
import { TsvmError } from '../errors.js';
import type { Abortable } from '../util/abort.js';
import {
  type Fields,
  FLAG,
  fieldProblem,
  isListOf,
  isRecord,
  isText,
  isWhole,
  oneOf,
  optional,
  requireFields,
} from '../util/fields.js';
import { parseBytes } from '../util/units.js';
import { isVariableName } from '../util/variable-name.js';
import { ISOLATIONS, type Isolation } from './backing.js';
import { checkTimeout } from './call.js';
import { IDLE_ENDS, type IdleEnd } from './idle.js';

/** Directory of the host that a sandbox has. */
export interface SandboxVolume {
  /** Path of the host's; a relative one begins at this process's working directory. */
  readonly source: string;
  /** The sandbox can change nothing of it. Default: false. */
  readonly readOnly?: boolean | undefined;
}

/** What a sandbox is made of. `signal` is that of its making. */
export interface SandboxOptions extends Abortable {
  /** Time without a call, a job or a connection to a port after which it is ended or paused, in milliseconds. Default: none. */
  readonly timeoutMs?: number | undefined;
  /** What happens then. `pause`: it stops where it is, and the next call or connection resumes it; machines alone can. Default: kill. */
  readonly onTimeout?: IdleEnd | undefined;
  /** `machine`: a machine with a kernel of its own, which needs KVM. `container`: a container on the host's kernel. Default: machine. */
  readonly isolation?: Isolation | undefined;
  /** Image that its root is made of: a directory, an archive, a layout, or the name of one that is kept (`tsvm pull`). Default: the default guest's root. */
  readonly image?: string | undefined;
  /** Bytes, or a text such as `512M`. Default: 128 MiB for a machine; a container has no limit. */
  readonly memory?: number | string | undefined;
  /** vCPUs of a machine, a whole number; share of processor time of a container: 0.5 is half of one CPU. */
  readonly cpus?: number | undefined;
  /** `user`: to the host's network without privileges. Default: none but the loopback interface. */
  readonly network?: 'none' | 'user' | undefined;
  /** Directories of the host's, by their absolute paths in the sandbox. */
  readonly volumes?: Readonly<Record<string, SandboxVolume>> | undefined;
  /** Ports of its loopback interface that are forwarded from the beginning: {@link Sandbox.url} knows them. */
  readonly ports?: readonly number[] | undefined;
  /** Variables of its commands besides the image's. */
  readonly env?: Readonly<Record<string, string>> | undefined;
  /** User of its commands: `NAME`, `UID`, `NAME:GROUP` or `UID:GID`. Default: the image's, else the superuser. */
  readonly user?: string | number | undefined;
  /** Working directory of its commands, which is made if it is missing. Default: the image's, else `/`. */
  readonly cwd?: string | undefined;
  /** Name by which other processes find it, as long as it lives: {@link Sandbox.connect}, `tsvm ps`, `tsvm exec`. Default: none. */
  readonly name?: string | undefined;
  /** Labels of one that has a name, by which {@link Sandbox.list} and `tsvm ps --filter` find it. Default: none. */
  readonly labels?: Readonly<Record<string, string>> | undefined;
}

const isPlace = (path: string): boolean => isAbsolute(path) && path !== '/' && !path.includes('\0');
const VOLUME: Fields<SandboxVolume> = {
  source: ['a path', (value) => isText(value) && value !== ''],
  readOnly: optional(FLAG),
};

const FIELDS: Fields<SandboxOptions> = {
  isolation: optional(oneOf(...ISOLATIONS)),
  image: optional(['a path or the name of an image', (value) => isText(value) && value !== '']),
  memory: optional([
    'a number of bytes, or a text such as "512M"',
    (value) => isWhole(1)(value) || (isText(value) && parseBytes(value as string) !== undefined),
  ]),
  cpus: optional(['a number', (value) => typeof value === 'number' && value > 0]),
  network: optional(oneOf('none', 'user')),
  volumes: optional([
    'an object of absolute paths, each with `source` and `readOnly`',
    (value) =>
      isRecord(value) &&
      Object.entries(value).every(
        ([path, volume]) => isPlace(path) && fieldProblem(volume, VOLUME) === undefined,
      ),
  ]),
  ports: optional(['a list of ports', isListOf(isWhole(1, 0xffff))]),
  env: optional([
    'an object of strings by names of variables',
    (value) =>
      isRecord(value) && Object.entries(value).every(([name, text]) => isVariableName(name) && isText(text)),
  ]),
  user: optional(['a user', (value) => isWhole()(value) || (isText(value) && value !== '')]),
  cwd: optional(['an absolute path', (value) => isText(value) && isAbsolute(value as string)]),
  name: optional(['a text', isText]),
  labels: optional(['an object of texts', areLabels]),
  signal: optional(['an AbortSignal', (value) => value instanceof AbortSignal]),
  timeoutMs: optional(['milliseconds', (value) => typeof value === 'number']),
  onTimeout: optional(oneOf(...IDLE_ENDS)),
};

/** Checks what a sandbox is to be made of. @throws TsvmError `TSVM_CONFIG` that names the field */
export function checkSandboxOptions(options: SandboxOptions): void {
  requireFields(options, FIELDS, 'a sandbox');
  checkTimeout(options.timeoutMs);
  const { isolation = 'machine', cpus = 1, onTimeout } = options;
  if (isolation === 'container' && onTimeout === 'pause')
    throw new TsvmError('TSVM_CONFIG', 'onTimeout: a container cannot be paused', {
      hint: "a machine can: leave out `isolation: 'container'`",
    });
  if (isolation === 'machine' && !Number.isInteger(cpus))
    throw new TsvmError('TSVM_CONFIG', `cpus: ${cpus} is not a whole number of vCPUs`, {
      hint: "a share of a CPU is for containers: `isolation: 'container'`",
    });
}

/** Bytes of memory that are asked for. */
export function memoryBytesOf({ memory }: SandboxOptions): number | undefined {
  return typeof memory === 'string' ? parseBytes(memory) : memory;
}

/** Volume with absolute paths. */
export interface PlacedVolume {
  readonly source: string;
  readonly target: string;
  readonly readOnly: boolean;
}

export function placedVolumes({ volumes = {} }: SandboxOptions): readonly PlacedVolume[] {
  return Object.entries(volumes).map(([target, { source, readOnly = false }]) => ({
    source: resolve(source),
    target,
    readOnly,
  }));
}
