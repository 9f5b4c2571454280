/**
 * Spec of a machine: the machine as data, in one spelling. A snapshot keeps it, a template is found by it, the control API gives and takes
 * it, and it tells which files of the host a machine needs.
 *
 * A spec has no authority: where it comes from a file of another's, what it names of the host is a wish (decision 10).
 */
import { type DeviceKind, type DeviceRequest, deviceKinds, type HostPath } from '../devices/registry.js';
import { TsvmError } from '../errors.js';
import { CMDLINE_MAX_BYTES, VIRTIO_GSIS } from '../memory/layout.js';
import {
  type Field,
  type Fields,
  isListOf,
  isRecord,
  isText,
  objectSchema,
  oneOf,
  optional,
  pickFields,
  requireFields,
} from '../util/fields.js';
import { printable } from '../util/printable.js';
import {
  checkBounds,
  DATA_FIELDS,
  DEFAULT_MEMORY_BYTES,
  GUEST_WAYS,
  type GuestWay,
  guestOf,
  type MachineConfig,
} from './config.js';

export type { HostPath } from '../devices/registry.js';

export const SPEC_VERSION = 1;
/** Longest command line that has a place in guest memory. */
const MAX_CMDLINE = CMDLINE_MAX_BYTES - 1;

/** A device of a spec: a {@link DeviceRequest} without what makes the device. */
export interface SpecDevice {
  readonly kind: string;
  readonly config: Readonly<Record<string, unknown>>;
}

/** Fields that are in a configuration as well mean what they mean there ({@link MachineConfig}). */
export interface MachineSpec extends Pick<MachineConfig, keyof typeof DATA_FIELDS> {
  readonly version: typeof SPEC_VERSION;
  readonly memoryBytes: number;
  readonly cpus: number;
  readonly console: NonNullable<MachineConfig['console']>;
  /** Way to the guest's init: `channel`, `agent` and `stopPort` of a configuration. */
  readonly guest: GuestWay;
  /** In the order of their slots. */
  readonly devices: readonly SpecDevice[];
}

/** A spec as it is given: what has a default may be left out. */
type GivenSpec = Pick<MachineSpec, 'version'> & Partial<MachineSpec>;

const DEVICE_FIELDS: Fields<SpecDevice> = {
  kind: [`one of ${Object.keys(deviceKinds).join(', ')}`, isText, { enum: Object.keys(deviceKinds) }],
  config: ['an object: what docs/devices say of the kind', isRecord, { type: 'object' }],
};

const DEVICES: Field = [
  `a list of up to ${VIRTIO_GSIS.length} devices`,
  isListOf(isRecord, VIRTIO_GSIS.length),
  { type: 'array', maxItems: VIRTIO_GSIS.length, items: objectSchema(DEVICE_FIELDS) },
];

const FIELDS: Fields<MachineSpec> = {
  version: [`${SPEC_VERSION}`, (value) => value === SPEC_VERSION, { const: SPEC_VERSION }],
  ...DATA_FIELDS,
  cmdline: optional([
    `a string of up to ${MAX_CMDLINE} characters`,
    (value) => isText(value) && (value as string).length <= MAX_CMDLINE,
    { type: 'string', maxLength: MAX_CMDLINE },
  ]),
  guest: optional(oneOf(...GUEST_WAYS)),
  devices: optional(DEVICES),
};

/** JSON Schema of a spec. */
export const SPEC_SCHEMA: object = objectSchema(FIELDS);

/** Tells whether a machine can be said as data: not one with a device that a program has made for it. */
export function isData({ devices = [] }: MachineConfig): boolean {
  return devices.every(({ config }) => config !== undefined);
}

/** @throws TsvmError `TSVM_SNAPSHOT` for a machine that {@link isData} is false of. */
export function specOf(config: MachineConfig): MachineSpec {
  const devices = (config.devices ?? []).map(({ kind, config }) => {
    if (config !== undefined) return { kind, config: { ...config } };
    throw new TsvmError('TSVM_SNAPSHOT', `a machine with a device of kind ${kind} cannot be saved`, {
      hint: 'give its request a config from which it can be made again',
    });
  });
  return {
    version: SPEC_VERSION,
    ...pickFields<Pick<MachineConfig, keyof typeof DATA_FIELDS>>(config, DATA_FIELDS),
    memoryBytes: config.memoryBytes ?? DEFAULT_MEMORY_BYTES,
    cpus: config.cpus ?? 1,
    console: config.console ?? 'serial',
    guest: guestOf(config),
    devices,
  };
}

/** @throws TsvmError `TSVM_CONFIG`, naming the field, for a device that is of no kind or has a configuration that is none. */
export function configOf({ version: _, guest = 'none', devices = [], ...rest }: GivenSpec): MachineConfig {
  return {
    ...rest,
    channel: guest === 'channel' || guest === 'agent',
    ...(guest === 'agent' && { agent: true }),
    stopPort: guest === 'stop-port',
    devices: devices.map(requestOf),
  };
}

/**
 * A spec out of data that is not trusted, with what it leaves out.
 *
 * @throws TsvmError `TSVM_CONFIG`, naming the field.
 */
export function parseSpec(data: unknown): MachineSpec {
  requireFields(data, FIELDS, "a machine's spec");
  const given = data as GivenSpec;
  const config = configOf(given);
  checkBounds(config);
  // As they were given: a template is known by what it was asked for.
  return { ...specOf(config), devices: given.devices ?? [] };
}

/** Spec of a machine whose guest is in its memory: nothing of where that came from. */
export function loadedSpec({
  version,
  memoryBytes,
  cpus,
  console,
  guest,
  firmware,
  devices,
}: MachineSpec): MachineSpec {
  return {
    version,
    memoryBytes,
    cpus,
    console,
    guest,
    ...(firmware === undefined ? {} : { firmware: 'builtin' }),
    devices,
  };
}

/** Lists every path of the host that a machine's spec names, as it is there: relative ones are relative to where the machine is made. */
export function pathsOf({ kernel, initrd, firmware, devices }: MachineSpec): HostPath[] {
  const files = [kernel, initrd, firmware === 'builtin' ? undefined : firmware];
  return [
    ...files.flatMap((path) =>
      path === undefined ? [] : [{ path, type: 'file', isWritten: false } as const],
    ),
    ...devices.flatMap(({ kind, config }) => kindOf(kind).paths(config)),
  ];
}

/** Kind of device by its name. @throws TsvmError `TSVM_CONFIG` */
export function kindOf(name: string): DeviceKind {
  const kind = Object.hasOwn(deviceKinds, name) ? deviceKinds[name] : undefined;
  if (kind !== undefined) return kind;
  throw new TsvmError('TSVM_CONFIG', `there is no device kind '${printable(name)}' here`);
}

function requestOf(device: unknown, index: number): DeviceRequest {
  requireFields<SpecDevice>(device, DEVICE_FIELDS, `devices[${index}]`, `devices[${index}].`);
  const { kind, config } = device as SpecDevice;
  try {
    return kindOf(kind).fromConfig(config);
  } catch (error) {
    if (!(error instanceof TsvmError)) throw error;
    throw new TsvmError(error.code, `devices[${index}]: ${error.message}`, {
      hint: error.hint,
      cause: error,
    });
  }
}
