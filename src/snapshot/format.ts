/**
 * A saved machine as a folder: `machine.json`, which is described here, and a sparse file with the pages of its memory.
 *
 * Everything in it may be damaged or somebody's trap. The schemas check shapes and ranges; what the values mean is checked
 * by those who take them back (queues as if the guest had written them).
 */
import * as z from 'zod/mini';
import type { FolderRules } from '../host/own-folder.js';
import type { Abortable } from '../util/abort.js';

export const SNAPSHOT_FORMAT = 3;
export const MANIFEST_NAME = 'machine.json';

/** Rules for its folder, read or written: what lies in it becomes a machine. Links in a path that was typed are followed before. */
export const SNAPSHOT_FOLDER: FolderRules = {
  code: 'TSVM_SNAPSHOT',
  what: 'the folder of a snapshot,',
  hint: 'use a folder of your own: chown -R it to yourself if you trust what is in it',
};

/** Bounds what is parsed. A machine with 64 vCPUs and every slot in use takes 1.5 MiB. */
export const MAX_MANIFEST_BYTES = 16 * 1024 * 1024;

/** Differential upon differential: each is a file to open and some mappings. */
export const MAX_CHAIN = 32;

/** Each takes up to two mappings of the 65,530 that a process has by default (vm.max_map_count). */
export const MAX_PIECES = 16 * 1024;
/** Of these, at most, in one file: a chain of {@link MAX_CHAIN} can always be restored. */
export const MAX_PIECES_FULL = 4096;
export const MAX_PIECES_DIFFERENTIAL: number = Math.floor((MAX_PIECES - MAX_PIECES_FULL) / (MAX_CHAIN - 1));

type DeepReadonly<T> = T extends object ? { readonly [Key in keyof T]: DeepReadonly<T[Key]> } : T;

const u16 = z.int().check(z.minimum(0), z.maximum(0xffff));
const u32 = z.int().check(z.minimum(0), z.maximum(0xffff_ffff));
const count = z.int().check(z.minimum(0));
/** Address as a guest wrote it, which need not be one: beyond 2^53 it is not exact. */
const address = z.number().check(z.minimum(0), z.maximum(2 ** 64), z.refine(Number.isInteger));
const base64 = z.string().check(z.regex(/^[0-9A-Za-z+/]*={0,2}$/));
const hex64 = z.string().check(z.regex(/^[0-9a-f]{1,16}$/));
const sha256 = z.string().check(z.regex(/^[0-9a-f]{64}$/));
const text = z.string();

const vcpuState = z.strictObject({
  cpuid: base64,
  structs: z.strictObject({
    kvm_regs: base64,
    kvm_sregs: base64,
    kvm_xsave: base64,
    kvm_xcrs: base64,
    kvm_lapic_state: base64,
    kvm_mp_state: base64,
    kvm_vcpu_events: base64,
    kvm_debugregs: base64,
  }),
  msrs: z.array(z.tuple([u32, hex64])),
});

const queueState = z.strictObject({
  size: u32,
  ready: z.boolean(),
  descAddr: address,
  availAddr: address,
  usedAddr: address,
  position: z.nullable(z.strictObject({ nextAvail: u16, nextUsed: u16, signalledUsed: u16 })),
});

/** State of a device, which the device itself checks when it takes it back. */
const deviceState = z.looseObject({ version: count });

const slotState = z.strictObject({
  version: count,
  deviceId: u32,
  status: u32,
  deviceFeaturesSel: u32,
  driverFeaturesSel: u32,
  driverFeatures: hex64,
  queueSel: u32,
  interruptStatus: u32,
  configGeneration: u32,
  queues: z.array(queueState),
  device: deviceState,
});

const platformState = z.strictObject({
  /** By the names of the rows of the board (machine/platform.ts). */
  board: z.record(text, deviceState),
  slots: z.array(slotState),
  generation: z.boolean(),
});

/** All of a machine but its memory and disks. */
const savedState = z.strictObject({
  vm: z.strictObject({
    vcpus: z.array(vcpuState),
    irqchips: z.tuple([base64, base64, base64]),
    pit: base64,
    clock: base64,
  }),
  platform: platformState,
  /** What was typed and not taken by the guest yet. */
  typed: base64,
  /**
   * State of a machine's channel, if it has one: the version of its protocol, whether its guest has a command, on which terminal, whether it was told its facts and has the agent, and what of
   * messages to it was not taken yet.
   */
  channel: z.optional(
    z.strictObject({
      protocol: count,
      hasCommand: z.boolean(),
      hasTerminal: z.boolean(),
      isInUse: z.optional(z.boolean()),
      agent: z.optional(z.boolean()),
      unsent: base64,
    }),
  ),
});
export type SavedState = DeepReadonly<z.infer<typeof savedState>>;

const savedHost = z.strictObject({
  profile: text,
  cpu: z.strictObject({ vendor: text, family: text, model: text, name: text, flags: text }),
});

const savedDisk = z.strictObject({
  path: text,
  readOnly: z.boolean(),
  sizeBytes: count,
  /** Nanoseconds since 1970, in decimal. */
  mtimeNs: text,
  inode: text,
});

const savedMemory = z.strictObject({
  /** Name of the file in the folder. A page of RAM is at its own offset in it. */
  file: text.check(z.regex(/^memory-[0-9a-f]+$/)),
  bytes: count,
  /** Runs of pages that the file holds: first and count, ascending. Others are the base's, or zeroes. */
  pages: z.array(z.tuple([count, z.int().check(z.minimum(1))])),
  /** Of those pages, one after the other. */
  sha256,
  /** What the file looked like when it was finished. As long as it does, the checksum need not be computed. */
  stamp: z.strictObject({ inode: text, ctimeNs: text, bytes: count }),
});
export type SavedMemory = DeepReadonly<z.infer<typeof savedMemory>>;

const snapshot = z.strictObject({
  /** Version of tsvm, for people. */
  tsvm: text,
  /** ISO 8601. */
  created: text,
  host: savedHost,
  /** Folder that relative paths of the configuration are relative to. */
  directory: text,
  /** Spec of the machine, which is read by who makes machines of it. */
  config: z.record(text, z.unknown()),
  cmdline: text,
  state: savedState,
  disks: z.array(savedDisk),
  memory: savedMemory,
  /** A differential snapshot's base: a path relative to this folder, and the checksum in its `machine.json`. */
  base: z.optional(z.strictObject({ directory: text, checksum: sha256 })),
});
export type Snapshot = DeepReadonly<z.infer<typeof snapshot>>;

/** `machine.json`. `checksum` is the SHA-256 of `snapshot` as JSON without white space. */
export const manifestSchema = z.strictObject({
  format: z.literal(SNAPSHOT_FORMAT),
  checksum: sha256,
  snapshot,
});

export interface SnapshotProgress {
  readonly doneBytes: number;
  readonly totalBytes: number;
}

export interface SnapshotOptions extends Abortable {
  /**
   * Save only the pages that changed since the snapshot that the machine was restored from, which the new one then needs.
   * Default false.
   */
  readonly differential?: boolean;
  /** Called while memory is written. */
  onProgress?(progress: SnapshotProgress): void;
}

export interface SnapshotResult {
  readonly directory: string;
  /** Of memory, in the file; holes take no space. */
  readonly memoryBytes: number;
  /** How long the machine stood still. */
  readonly pauseMs: number;
  readonly totalMs: number;
}
